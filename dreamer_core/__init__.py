"""DreamerV2: the algorithm, and all that needs no cluster. Start reading at train_local.py."""

import os

# Torch's idle CPU threads spin by default, which on a machine with other work (a collector, an
# evaluator, another run) slows a gradient step severalfold. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
