"""How the process of a run or a sweep is scraped by Prometheus, and found by it."""
