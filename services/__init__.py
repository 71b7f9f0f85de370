"""DreamerV2 as a service on Ray: collector, replay server, learner, evaluator, one supervisor."""

import os

# Read by Ray when it is imported. Without a token anyone who reaches its ports could run code.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # report nothing to anybody
# Else 15, which starves a learner beside anything else that computes; 5 leaves Ray itself ahead.
os.environ.setdefault("RAY_worker_niceness", "5")
# Ray's future default, which it else announces in every process: leave CUDA_VISIBLE_DEVICES alone.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# What an actor raises is raised where it was called; of a call that was given up nobody asks.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
