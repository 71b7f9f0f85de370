"""What a run tells of itself: the table of metrics, logs, curves, pictures."""
