"""What measures speed and memory; `dreamer bench` and `benchmarks/` call it."""
