"""Following a run: each new checkpoint is measured once, and noted as one line.

The invariant: `history.jsonl` has a step at most once, a line is there only when the measurement is whole, and a
follower that was stopped goes on with the steps that are missing. It only reads the run, so it may live elsewhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ecommerce_vl.evaluation.tables import SLICE, without_baseline
from ecommerce_vl.files import read_json_lines, write_text

FILE = "history.jsonl"
PREFIX = "test/"


def follow(
    folder: Path,
    *,
    steps: Callable[[], list[int]],
    measure: Callable[[int], Mapping[str, dict] | None],
    last_step: Callable[[], int],
    wait: Callable[[float], None] = time.sleep,
    poll_s: float = 10.0,
    log: Callable[[str], None] = print,
) -> None:
    """Measures every step that `steps()` shows, until the last one of the run has come.

    Args:
      folder: where `history.jsonl` lies.
      steps: the committed steps of the run, in ascending order; [] while there is no run.
      measure: the metrics of a step, or None where its checkpoint has gone or is damaged: then it is passed over.
      last_step: the step that ends the run; asked only once there are steps.
    """
    rows = read(folder)
    file = folder / FILE
    write_text(file, "".join(json.dumps(row) + "\n" for row in rows))  # without a line cut short by a kill
    seen = {row["step"] for row in rows}
    while True:
        found = steps()
        for step in found:
            if step in seen:
                continue
            metrics = measure(step)
            seen.add(step)
            if metrics is not None:
                with file.open("a") as lines:
                    lines.write(json.dumps({"step": step} | _model_values(metrics)) + "\n")
                log(f"noted    step {step:,} in {file}")
            break  # look again: what was there before a long measurement may be gone
        else:
            if found and max(seen) >= last_step():
                return
            wait(poll_s)


def read(folder: Path) -> list[dict]:
    """The lines of `history.jsonl`, [] where there is none; a last line cut short is left out."""
    return read_json_lines(Path(folder) / FILE)


def curves(folder: Path, keys: tuple[str, ...]) -> list[dict]:
    """Rows for the report's curves: {"step", "test/key": value} of the `keys` that were measured."""
    return [{"step": row["step"]} | {PREFIX + key: row[key] for key in keys if key in row} for row in read(folder)]


def _model_values(metrics: Mapping[str, dict]) -> dict[str, float]:
    """The values of the model alone: no baseline changes over a run."""
    return {
        key: entry["value"]
        for key, entry in metrics.items()
        if SLICE not in key and not without_baseline(tuple(key.split("/")[1:]))[1]
    }
