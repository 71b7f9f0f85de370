"""Addresses as they stand in a URL."""

from __future__ import annotations


def host_port(address: str, port: int) -> str:
    """Returns HOST:PORT, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
