"""A Ray cluster that outlives one run: `python -m tests.shared_cluster` tells its address.

It has a GPU, or says so, and ends when its standard input does.
"""

import contextlib
import subprocess
import sys

from tests.runs import ROOT


@contextlib.contextmanager
def shared_cluster():
    """Yields the address of a cluster that ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.shared_cluster"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()
        process.wait(60)


def main():
    import ray

    import services  # noqa: F401 (says how Ray authenticates, before it is imported)

    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=1,
        include_dashboard=False,
        object_store_memory=200_000_000,
        log_to_driver=False,
    )
    sys.stdout.write(ray.get_runtime_context().gcs_address + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
