"""Runs and analyses of made-up numbers for the tests of the page."""

import json
from html.parser import HTMLParser

import numpy as np

from dreamer_core.page.looks import Look, Played
from dreamer_core.report.analysis import Reliability, WorldModelAnalysis
from tests.core.scores.examples import as_text, line, write_run

VOID = {"meta", "link", "input", "br", "img"}
STEP = 25_000  # policy steps of 100,000 frames


def reported(policy_step, service="learner", **values):
    """A line of numbers, action repeat 4."""
    found = line(policy_step, service=service)
    found.values.update(values)
    return found


def a_run(run_dir, returns=(1.0, 2.0, 3.0), *, task="pong", seed=0, preset="atari", **settings):
    """A run directory with an evaluation each 100,000 frames and a loss beside each."""
    lines = []
    for k, value in enumerate(returns, start=1):
        lines.append(reported(STEP * k, dreamer_kl_nats=10.0 / k, dreamer_actor_entropy_nats=1.0))
        lines.append(line(STEP * k, value - 1, service="collector"))
        lines.append(line(STEP * k, value))
    write_run(run_dir, lines, task=task, seed=seed, **settings)
    return with_config(run_dir, preset=preset)


def with_config(run_dir, **values):
    """The run with other values at the top of its config."""
    path = run_dir / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return run_dir


def append(run_dir, *lines):
    """Appends lines, or text as it is, to the metrics of a run."""
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write("".join(each if isinstance(each, str) else as_text(each) for each in lines))


def images(count, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 64, 64, channels), np.uint8)


def an_analysis(*, horizon=10, context=5, has_images=True, is_gaussian=False):
    """An analysis whose errors grow with the steps ahead."""
    steps = np.arange(1, horizon + 1, dtype=np.float32)
    frames = images(context + horizon if has_images else 0)
    return WorldModelAnalysis(
        policy_step=1_000,
        gradient_step=250,
        sequences=12,
        context=context,
        reached=np.full(horizon, 12, np.float32),
        image_error=steps / 1000 if has_images else steps[:0],
        copied_image_error=steps / 500 if has_images else steps[:0],
        reward_error=steps / 100,
        mean_reward_error=np.full(horizon, 0.05, np.float32),
        seen_reward_error=0.01,
        overall_mean_reward_error=0.05,
        kl=steps / 10,
        discount=Reliability(
            predicted=np.array([0.2, 0.9], np.float32),
            observed=np.array([0.1, 1.0], np.float32),
            count=np.array([10, 110], np.float32),
        ),
        latent_usage=np.full((2, 4), 0.25, np.float32) if not is_gaussian else np.zeros((0, 0)),
        latent_entropy=np.full(2, 0.5, np.float32) if not is_gaussian else np.zeros(0),
        truth=frames,
        model=255 - frames,
    )


def a_look(record):
    """What a run would be seen to do, without playing it."""
    played = Played(
        frames=images(6, 3),
        fps=15.0,
        episode_return=3.0,
        length=5,
        is_cut=False,
        policy_step=1_000,
    )
    return Look(analysis=an_analysis(), played=played)


def no_look(record):
    return Look()


class Parsed(HTMLParser):
    """A page taken apart: whether each element is closed, and what is said."""

    def __init__(self, content):
        super().__init__()
        self._open, self.attributes, self.text = [], [], ""
        self.rows = []
        """The cells of each row of a table."""
        self.feed(content)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.attributes.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), (tag, attributes)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.attributes.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, tag

    def handle_data(self, data):
        if not self._open or self._open[-1] not in ("style", "script"):
            self.text += data
            if {"td", "th"} & set(self._open):
                self.rows[-1][-1] += data
