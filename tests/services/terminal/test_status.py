"""What `dreamer status` needs and shows."""

import subprocess
import sys

HEAVY = ("torch", "ray", "tensorboard", "matplotlib", "cv2", "PIL", "fsspec")


def test_the_status_of_a_run_is_told_without_what_takes_long_to_import():
    ask = f"import services.terminal.status, sys; print([x for x in {HEAVY} if x in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
