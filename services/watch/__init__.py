"""The page of `dreamer watch`: an agent at play beside its dream."""
