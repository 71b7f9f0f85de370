"""Environments as the collector sees them: 64x64 images out, one action vector in."""
