"""A run in one process, and the parts that the services share with it. Start at local.py."""
