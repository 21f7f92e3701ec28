"""A door with the fake encoder in place of a trained run, as `python tests/exporting/door.py export SPACE --flags`."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__)


def run(door, *arguments, space="space-one"):
    """Runs the door in a process of its own; what it printed and its status."""
    command = [sys.executable, str(FILE), door, space, *map(str, arguments)]
    return subprocess.run(
        command, cwd=FILE.parents[2], env=os.environ, capture_output=True, text=True, timeout=120, check=False
    )


if __name__ == "__main__":
    from fake_encoder import FakeEncoder

    import ecommerce_vl

    door, space = sys.argv[1:3]
    ecommerce_vl.load = lambda workdir: FakeEncoder(space_id=space)
    sys.argv = [door, *sys.argv[3:]]
    runpy.run_module(f"ecommerce_vl.{door}", run_name="__main__")
