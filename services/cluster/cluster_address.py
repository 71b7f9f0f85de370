"""What names a Ray cluster: HOST:PORT of its control store, or `auto`; known without Ray."""

from __future__ import annotations

import re

from dreamer_core.errors import BadInput

AUTO = "auto"
"""The cluster of RAY_ADDRESS, else that of this user's last `ray start` on this machine."""
_HOST_PORT = re.compile(r"(\[[^\s/\[\]]+\]|[^\s/:\[\]]+):(\d{1,5})", re.ASCII)


def require_address(address: str, name: str = "ray_address") -> None:
    """Raises BadInput unless the address is HOST:PORT or `auto`; `name` is what holds it."""
    match = _HOST_PORT.fullmatch(address)
    is_host_and_port = match is not None and 0 < int(match[2]) < 2**16
    if address != AUTO and not is_host_and_port:
        raise BadInput(
            f"{name}={address!r} must be HOST:PORT of a Ray cluster's control store, as "
            f"10.0.0.1:6379, or {AUTO} for the cluster of this machine; mend it, or leave it out"
        )
