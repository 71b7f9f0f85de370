"""50 seeded gradient steps give the losses they gave when golden_losses.json was written.

Tolerance: 1e-5 of the largest absolute value of each loss over the run. Measured on the same
run, 1 against 2 threads and AVX512 against AVX2 and SSE differ by at most 7e-7 of it. (Relative
to each value it would say less: the actor loss crosses zero.) A processor whose rounding turns
the draw of one sample would exceed it; then write the file anew in a commit of its own.
"""

import json

import numpy as np
import pytest

from tests.core.agent.make_golden_losses import LOSSES, NUM_STEPS, PATH, compute

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden() -> dict[str, list[float]]:
    return json.loads(PATH.read_text())


@pytest.fixture(scope="module")
def computed() -> dict[str, list[float]]:
    return compute()


def test_the_file_holds_every_loss_of_every_step(golden):
    assert set(golden) == set(LOSSES)
    assert all(len(values) == NUM_STEPS and np.isfinite(values).all() for values in golden.values())


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_what_they_were(golden, computed, name):
    theirs, ours = np.array(golden[name]), np.array(computed[name])
    error = np.abs(ours - theirs) / np.abs(theirs).max()
    assert error.max() <= TOLERANCE, f"step {error.argmax()}: off by {error.max():.1e}"
