"""The environment of programs that tests start: the flags of the tests, on as many devices as the program needs."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(devices: int = 1, **more: str) -> dict[str, str]:
    flags = re.sub(r"(?<=device_count=)\d+", str(devices), os.environ["XLA_FLAGS"])
    return os.environ | {"XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)} | more
