"""What a person at a terminal sees and sends: display, status, logs, signals."""
