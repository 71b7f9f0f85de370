"""How a process joins a Ray cluster, and commands that run on its head."""
