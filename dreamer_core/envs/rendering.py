"""How MuJoCo renders without a screen: EGL or OSMesa, whichever works here."""

from __future__ import annotations

import os
import subprocess
import sys

from dreamer_core.envs.base import UnsupportedEnvironment

_BACKENDS = ("egl", "osmesa")
_TRY = "from mujoco import GLContext; GLContext(8, 8).make_current()"
_TRY_S = 60.0


def choose_renderer() -> None:
    """Names a backend that works in MUJOCO_GL, for this process and those that it starts.

    What is named there already counts. Each backend is tried in a process of its own, since OpenGL
    can be taken into one only once, and may end it. To be called before dm_control is imported.

    Raises:
        UnsupportedEnvironment: neither works.
    """
    if "MUJOCO_GL" in os.environ:
        return
    complaints: list[str] = []
    for backend in _BACKENDS:
        complaint = _complaint(backend)
        if complaint is None:
            os.environ["MUJOCO_GL"] = backend
            return
        complaints.append(f"{backend}: {complaint}")
    raise UnsupportedEnvironment(
        f"Wanted to render without a screen, but nothing here can ({'; '.join(complaints)}). "
        "Install one of them; on Debian and Ubuntu: apt-get install libegl1 libegl-mesa0 "
        "libgl1-mesa-dri, or apt-get install libosmesa6; or name a backend in MUJOCO_GL"
    )


def _complaint(backend: str) -> str | None:
    """What is wrong with a backend, in one line; None if it works."""
    try:
        done = subprocess.run(  # noqa: S603 (this Python)
            [sys.executable, "-c", _TRY],
            env=os.environ | {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend},
            capture_output=True,
            text=True,
            timeout=_TRY_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"silent for {_TRY_S:g} s"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith(" ")]
    errors = [line for line in lines if "Error" in line.partition(":")[0]]
    return (errors or lines or [f"ended with {done.returncode}"])[0]
