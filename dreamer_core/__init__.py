"""DreamerV2: the algorithm and everything that needs no cluster. Start reading at train_local.py."""
