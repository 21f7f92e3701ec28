"""Door: train a system on prepared data; the same command resumes.

    python -m ecommerce_vl.train --config=configs/eclip.py:small --workdir=RUN --config.data.path=DATA

Writes RUN/config.json, RUN/metrics.jsonl, RUN/tensorboard/, RUN/checkpoints/, RUN/tokenizer/ and RUN/preprocess.json.
SIGTERM saves and leaves with status 75.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ecommerce_vl import doors

WORKDIR = flags.DEFINE_string("workdir", None, "run directory; one that was stopped goes on", required=True)
CONFIG = config_flags.DEFINE_config_file("config", None, "what to train; see configs/", lock_config=True)
flags.mark_flag_as_required("config")


def main() -> int:
    from ecommerce_vl.systems import build_system
    from ecommerce_vl.training.loop import FINISHED, train

    outcome = train(CONFIG.value.to_dict(), Path(WORKDIR.value), build_system=build_system)
    return 0 if outcome == FINISHED else doors.PREEMPTED


if __name__ == "__main__":
    doors.run(main, door="train")
