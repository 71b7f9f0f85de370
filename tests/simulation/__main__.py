"""`make simulate`: thousands of simulated runs, each broken by an adversary of another seed.

python -m tests.simulation --schedules 20000         what CI runs
python -m tests.simulation --seed 1849               one of them again, with its tape
python -m tests.simulation --mutants                 after how many schedules is each fault found
python -m tests.simulation --all --json FILE         both, as one record
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from dreamer_core.bench.measure import machine
from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.scenario import simulate

_CHUNK = 100
_LOOKED_FOR = 20_000
_LEAST_COMPARED = 0.9
"""Share of the lockstep runs with a state that must end as an undisturbed one."""


def main():
    arguments = _parse()
    if arguments.seed is not None:
        sys.exit(_replay(arguments.seed))
    if arguments.mutants:
        result, failing = {"found_after_schedules": _find_mutants()}, []
    else:
        result, failing = _run(arguments)
        if arguments.all:
            result["found_after_schedules"] = _find_mutants()
    result |= machine()
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    for seed in failing[:3]:
        _replay(seed)
    sys.exit(1 if failing else 0)


def _parse():
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one alone and print its tape")
    parser.add_argument("--first", type=int, default=0, help="seed of the first schedule")
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--mutants", action="store_true", help="look for faults put in on purpose")
    parser.add_argument("--all", action="store_true", help="schedules first, then these faults")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser.parse_args()


def _run(arguments):
    """Runs the schedules; returns figures, and the seeds that violated something."""
    began_s = time.monotonic()
    chunks = range(arguments.first, arguments.first + arguments.schedules, _CHUNK)
    ends, faults, lives, failing = Counter(), Counter(), 0, []
    compared = exact = 0
    with multiprocessing.get_context("fork").Pool(arguments.processes) as pool:
        for part in pool.imap_unordered(_simulate_chunk, chunks):
            ends.update(part["ends"])
            faults.update(part["faults"])
            lives += part["lives"]
            compared += part["compared"]
            exact += part["exact"]
            failing += part["failing"]
    result = {
        "schedules": arguments.schedules,
        "first_seed": arguments.first,
        "violations": len(failing),
        "failing_seeds": sorted(failing)[:20],
        "lives": lives,
        "ends_of_lives": dict(ends.most_common()),
        "faults": dict(faults.most_common()),
        "lockstep_runs_with_state": exact,
        "lockstep_runs_equal_to_undisturbed_ones": compared,
        "seconds": round(time.monotonic() - began_s, 1),
        "processes": arguments.processes,
    }
    if compared < _LEAST_COMPARED * exact:
        sys.exit(f"only {compared} of {exact} lockstep runs could be compared: {result}")
    return result, sorted(failing)


def _simulate_chunk(first):
    outcomes = [simulate(seed) for seed in range(first, first + _CHUNK)]
    return {
        "ends": sum((outcome.ends for outcome in outcomes), Counter()),
        "faults": Counter(kind for outcome in outcomes for kind in outcome.faults),
        "lives": sum(outcome.lives for outcome in outcomes),
        "compared": sum(outcome.is_compared for outcome in outcomes),
        "exact": sum(o.variant.is_lockstep and o.variant.has_state for o in outcomes),
        "failing": [outcome.seed for outcome in outcomes if outcome.error is not None],
    }


def _replay(seed):
    """Runs one schedule and prints what happened in it."""
    outcome = simulate(seed)
    sys.stdout.write(f"\nseed {seed}: {outcome.variant}, faults {', '.join(outcome.faults)}\n")
    sys.stdout.write("\n".join(outcome.tape) + "\n")
    if outcome.error is None:
        sys.stdout.write("nothing was violated\n")
        return 0
    sys.stdout.write("".join(traceback.format_exception(outcome.error)))
    sys.stdout.write(f"again: make simulate SEED={seed}\n")
    return 1


def _find_mutants():
    """After how many schedules each fault is found; None if it is not."""
    found = {}
    for name in MUTANTS:
        with mutated(name):
            seeds = itertools.islice(itertools.count(), _LOOKED_FOR)
            hits = (seed for seed in seeds if simulate(seed).error is not None)
            seed = next(hits, None)
        found[name] = None if seed is None else seed + 1
        sys.stderr.write(f"{name}: {found[name]}\n")
    return found


if __name__ == "__main__":
    main()
