"""Door: compile the training step for a slice that is not here, and say what it takes.

    python -m ecommerce_vl.plan --config=configs/eclip.py:base --topology=v5e:16x16 --out=plan.json

Slices: v5e:16x16, v6e:16x16, v5p:8x8x16, tpu7x:4x4x4 (pip install 'ecommerce_vl[plan]'; no TPU is needed), or local:8,
eight devices of this machine. No data is read: the vocabulary is the configured one, or that of the folder that a run
would begin from (`config.init`), whose sizes are planned too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ecommerce_vl import doors

CONFIG = config_flags.DEFINE_config_file("config", None, "what to train; see configs/", lock_config=True)
TOPOLOGY = flags.DEFINE_string("topology", None, "the slice, such as v5e:16x16, or local:8", required=True)
OUT = flags.DEFINE_string("out", None, "where to write the plan as JSON")
BATCH = flags.DEFINE_integer("batch", None, "wanted global batch; the streams for it are told", lower_bound=2)
SEARCH = flags.DEFINE_bool("search", True, "look for the largest rows a device that fit; up to five compilations")
flags.mark_flag_as_required("config")


def main() -> int:
    from ecommerce_vl import weights
    from ecommerce_vl.planning.report import lines, make_plan
    from ecommerce_vl.planning.topology import open_topology, prepare_environment

    prepare_environment(TOPOLOGY.value)
    topology = open_topology(TOPOLOGY.value)
    config = weights.resolve(CONFIG.value.to_dict())
    plan = make_plan(config, topology, batch=BATCH.value, search=SEARCH.value, say=_say)
    print("\n".join(lines(plan)))
    if OUT.value:
        Path(OUT.value).write_text(json.dumps({"config": config, **plan}, indent=2) + "\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    doors.run(main, door="plan")
