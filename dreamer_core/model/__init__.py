"""The networks of DreamerV2 and their losses. Torch alone; knows no run, file or environment."""
