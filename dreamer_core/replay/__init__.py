"""Episodes on disk, and the sequences drawn from them."""
