"""A run of `dreamer train` on hosts, watched from outside."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.hosts import Host

_DREAMER = Path(sys.executable).with_name("dreamer")
_METRICS_PORT = 9464
_SCRAPE = f"""
import sys, urllib.request
with urllib.request.urlopen("http://127.0.0.1:{_METRICS_PORT}/metrics", timeout=60) as response:
    sys.stdout.write(response.read().decode())
"""


class HostedRun:
    """`dreamer train` on the head of a Ray cluster.

    Args:
        head: the host.
        address: of the cluster.
        options: preset and settings.
        run_dir: where all hosts see it; None for one on the head's disk.
    """

    def __init__(
        self, head: Host, address: str, *options: str, run_dir: Path | None = None
    ) -> None:
        self._head = head
        self.run_dir = run_dir or head.directory / "disk" / "run"
        """As seen from outside."""
        self._log = head.directory / "disk" / "dreamer.log"
        inside = head.directory.parent / "disk"
        fixed = ("--runtime.ray-address", address, "--metrics.port", str(_METRICS_PORT))
        command = (_DREAMER, "train", *options, "--run-dir", run_dir or inside / "run", *fixed)
        to_file = f"exec >{inside}/dreamer.log 2>&1; exec " + '"$@"'
        self._process = head.start("sh", "-c", to_file, "sh", *command)

    @property
    def output(self) -> str:
        """What the command printed."""
        return self._log.read_text()

    def finish(self, timeout_s: float = 300) -> int:
        """Waits for the end and returns the exit code."""
        return self._process.wait(timeout_s)

    def scrape(self) -> dict[tuple[str, ...], float]:
        """What Prometheus would see now, {} before the run serves it."""
        try:
            text = self._head.run(sys.executable, "-S", "-c", _SCRAPE)
        except AssertionError:
            return {}
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 200) -> float:
        """Waits for what the run must live to see; returns the seconds that it took."""
        began_s = time.monotonic()
        while not condition():
            waited_s = time.monotonic() - began_s
            assert self._process.poll() is None, f"ended with {self._process.returncode}"
            assert waited_s < timeout_s, f"not within {timeout_s} s; now {self.scrape()}"
            time.sleep(0.1)
        return time.monotonic() - began_s

    def wait_for(self, *sample: str, least: float = 1.0) -> float:
        """Waits until a sample is at least so much; returns the seconds that it took."""
        return self.wait_until(lambda: self.scrape().get(sample, 0.0) >= least)
