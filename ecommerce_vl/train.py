"""Door: train a system on prepared data; the same command resumes.

    python -m ecommerce_vl.train --config=configs/eclip.py:small --workdir=RUN --config.data.path=DATA

Writes RUN/config.json, RUN/metrics.jsonl, RUN/tensorboard/, RUN/checkpoints/, RUN/tokenizer/ and RUN/preprocess.json.
SIGTERM saves and leaves with status 75. The same line runs on every process of a TPU pod, a SLURM job or a JobSet;
elsewhere add --coordinator=HOST:PORT --num_processes=P --process_id=I. See docs/launch.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ecommerce_vl import doors

WORKDIR = flags.DEFINE_string("workdir", None, "run directory; one that was stopped goes on", required=True)
CONFIG = config_flags.DEFINE_config_file("config", None, "what to train; see configs/", lock_config=True)
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0; SLURM, GKE and TPU pods tell it")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "of this run, with --coordinator", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "of this process, from 0, with --coordinator", lower_bound=0)
ROLL_CALL_S = flags.DEFINE_float("roll_call_s", 300.0, "seconds for all processes to come", lower_bound=0.1)
HEARTBEAT_S = flags.DEFINE_float("heartbeat_s", 60.0, "a process silent for so long is taken for dead", lower_bound=1)
HANG_S = flags.DEFINE_float("hang_s", 1800.0, "end if no process makes a step for so long; 0 never", lower_bound=0)
flags.mark_flag_as_required("config")


def main() -> int:
    from functools import partial

    from ecommerce_vl import weights
    from ecommerce_vl.evaluation.quick import measure
    from ecommerce_vl.systems import build_system
    from ecommerce_vl.training.loop import FINISHED, train
    from ecommerce_vl.training.place import find_place
    from ecommerce_vl.training.processes import join

    place = find_place(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    limits = {"roll_call_s": ROLL_CALL_S.value, "heartbeat_s": HEARTBEAT_S.value, "hang_s": HANG_S.value}
    workdir = Path(WORKDIR.value)
    with join(place, **limits, say=_say) as team:
        config = weights.resolve(CONFIG.value.to_dict(), workdir)
        initial = partial(weights.initial, config) if weights.named(config) else None
        outcome = train(config, workdir, build_system=build_system, measure=measure, initial=initial, team=team)
    return 0 if outcome == FINISHED else doors.PREEMPTED


def _say(sentence: str) -> None:
    sys.stderr.write(f"train: {sentence}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    doors.run(main, door="train")
