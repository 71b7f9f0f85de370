"""Measures what `dreamer watch` costs a run that trains beside it.

    .venv/bin/dreamer train atari_tiny --run-dir RUN --schedule.report-interval-gradient-steps 5
    .venv/bin/python benchmarks/watch_cost.py RUN --json benchmarks/results/watch.json

Windows in which somebody looks alternate with windows in which nobody does; each comes first in
every other pair, so that drift of the machine touches both alike. A run that reports seldom is
counted coarsely.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_core.bench.measure import machine
from dreamer_core.report.read import read_jsonl

SETTLE_S = 1.0
TAIL_BYTES = 10_000_000


class Look:
    """Somebody who looks for the length of a block, and counts the frames."""

    def __init__(self, url: str) -> None:
        self._answer = urllib.request.urlopen(f"{url}stream", timeout=60)  # noqa: S310
        self.frames = 0
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        while not self._is_over and self._answer.readline():
            self.frames += self._answer.readline() == b"\n"

    def __enter__(self) -> Look:
        self._is_over = False
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        self._answer.close()


def gradient_steps_per_second(run_dir: Path, began_s: float, ended_s: float) -> float:
    """Speed of learning between two times, from the run's reports around them."""
    lines = read_jsonl(run_dir / "metrics.jsonl", tail_bytes=TAIL_BYTES)
    times = [line.wall_time_s for line in lines]
    steps = [line.gradient_step for line in lines]
    first, last = np.interp([began_s, ended_s], times, steps)
    return float(last - first) / (ended_s - began_s)


def window(seconds: float) -> tuple[float, float]:
    """Lets time pass; returns its beginning and its end."""
    time.sleep(SETTLE_S)
    began_s = time.time()
    time.sleep(seconds)
    return began_s, time.time()


def measure(run_dir: Path, url: str, pairs: int, seconds: float) -> list[dict[str, float]]:
    """Speed of learning with and without somebody who looks, in each pair of windows."""
    found: list[dict[str, Any]] = []
    for pair in range(pairs):
        times: dict[str, tuple[float, float]] = {}
        for name in ("watched", "alone") if pair % 2 else ("alone", "watched"):
            if name == "alone":
                times[name] = window(seconds)
                continue
            with Look(url) as look:
                times[name] = window(seconds)
                frames_per_second = look.frames / (seconds + SETTLE_S)
        found.append({"times": times, "frames_per_second": frames_per_second})
    time.sleep(10)  # for the last report
    return [
        {name: gradient_steps_per_second(run_dir, *span) for name, span in x["times"].items()}
        | {"frames_per_second": x["frames_per_second"]}
        for x in found
    ]


def summary(pairs: list[dict[str, float]], seconds: float) -> dict[str, Any]:
    """The result as it goes into a file."""
    ratios = np.array([pair["watched"] / pair["alone"] for pair in pairs])
    drawn = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    return {
        "what": "speed of learning while dreamer watch is looked at, by that while it is not",
        "median_ratio": float(np.median(ratios)),
        "median_ratio_90_percent": np.quantile(np.median(drawn, 1), (0.05, 0.95)).tolist(),
        "quartiles": np.quantile(ratios, (0.25, 0.75)).tolist(),
        "gradient_steps_per_second_alone": statistics.median(p["alone"] for p in pairs),
        "gradient_steps_per_second_watched": statistics.median(p["watched"] for p in pairs),
        "frames_per_second": statistics.median(p["frames_per_second"] for p in pairs),
        "window_s": seconds,
        "pairs": pairs,
        **machine(),
        "measured_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    """Starts `dreamer watch` beside a run and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=7.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    command = [Path(sys.executable).with_name("dreamer"), "watch", options.run_dir, "--port", "0"]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert watch.stdout is not None
        url = watch.stdout.readline().split()[2]
        result = summary(
            measure(options.run_dir, url, options.pairs, options.seconds), options.seconds
        )
    finally:
        watch.terminate()
        watch.wait()
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
