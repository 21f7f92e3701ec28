"""Door: measure a trained run on prepared data and write a report with pictures.

    python -m ecommerce_vl.evaluate --workdir=RUN --data=DATA --split=test --out=EVAL
    python -m ecommerce_vl.evaluate --workdir=RUN --data=DATA --out=EVAL --follow
    python -m ecommerce_vl.evaluate --compare=EVAL_A,EVAL_B --out=COMPARED
    python -m ecommerce_vl.evaluate --workdir=RUN --data=DATA --out=EVAL --baseline=google/siglip2-base-patch16-224

The first writes EVAL/metrics.json, EVAL/report.html and EVAL/per_query.parquet, the value of each query, for
comparisons. Probes learn from the train split and choose their settings on the validation split; the measured split is
only measured. The second does so for each new checkpoint of a run that is still training, adds a line to
EVAL/history.jsonl, and ends when the run is finished, or on SIGTERM with status 75; the same command goes on. The third
says what differs between two evaluations of the same products, with intervals. The fourth measures published models
(CLIP, SigLIP, BERT, ViT) as they are beside the run.
"""

from __future__ import annotations

import difflib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from ecommerce_vl import doors
from ecommerce_vl.errors import UserError

if TYPE_CHECKING:
    from ecommerce_vl.encoder import Encoder

WORKDIR = flags.DEFINE_string("workdir", None, "run directory of the trained system")
DATA = flags.DEFINE_string("data", None, "folder that prepare wrote")
SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "what to measure")
OUT = flags.DEFINE_string("out", None, "folder for metrics.json and report.html", required=True)
QUERIES = flags.DEFINE_string(
    "queries",
    None,
    "JSONL file of queries with graded judgements of the products; the data's own held-out clicks if not given",
)
APPROXIMATE = flags.DEFINE_bool("approximate", False, "also how much an approximate index finds of the exact answers")
BASELINE = flags.DEFINE_list("baseline", [], "folders of Hugging Face, or ids of the hub, to measure as they are")
PAIRS = flags.DEFINE_list("pairs", [], "files of labelled pairs to match, .jsonl or .jsonl.gz, separated by commas")
TASKS = flags.DEFINE_list(
    "tasks", [], "tasks to measure instead of all, such as same_product,query; see docs/metrics.md"
)
THOROUGH = flags.DEFINE_boolean("thorough", False, "also what takes minutes: few-shot probes, fine-tuning the encoder")
SEED = flags.DEFINE_integer("seed", 0, "of bootstrap, baselines and the choice of examples")
FOLLOW = flags.DEFINE_bool("follow", False, "measure each new checkpoint of a run until it is finished")
COMPARE = flags.DEFINE_list("compare", [], "two folders that this door wrote, to be compared instead")


_CHOSEN_HERE = "; thresholds and probes were chosen on these same products, so they flatter: report --split=test"


def main() -> None:
    out = Path(OUT.value)
    if COMPARE.value:
        return _compare(out)
    for flag in (WORKDIR, DATA):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing; expected --{flag.name}=VALUE: {flags.FLAGS[flag.name].help}")
    _check_tasks()
    out.mkdir(parents=True, exist_ok=True)
    if FOLLOW.value:
        return _follow(out)
    _measure(out)


def _check_tasks() -> None:
    from ecommerce_vl.evaluation import suite

    if unknown := [name for name in TASKS.value if name not in suite.TASKS]:
        near = difflib.get_close_matches(unknown[0], suite.TASKS, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"--tasks has {unknown[0]!r}; expected some of {', '.join(suite.TASKS)}{meant}")


def _measure(out: Path, *, step: int | None = None) -> dict[str, dict]:
    """Measures the newest checkpoint, or that of `step`; returns the metrics."""
    import ecommerce_vl as vl
    from ecommerce_vl.data.item_pairs import held_out
    from ecommerce_vl.data.logs.tables import QUERY_PAIRS
    from ecommerce_vl.data.prepared import PreparedData
    from ecommerce_vl.evaluation import comparison, embedding, following, pair_files, report, slices, suite
    from ecommerce_vl.evaluation import queries as judged_queries
    from ecommerce_vl.evaluation.summary import summary
    from ecommerce_vl.exporting.index import in_memory, require_library
    from ecommerce_vl.files import write_json
    from ecommerce_vl.progress import Progress
    from ecommerce_vl.training.writer import read_metrics

    if APPROXIMATE.value:
        require_library("usearch", flag="--approximate")
    workdir = Path(WORKDIR.value)
    pairs = [pair_files.read(file) for file in PAIRS.value]
    published = _published(BASELINE.value)
    data = PreparedData(DATA.value)
    queries, judged_by = None, "none"
    if QUERIES.value:
        queries, judged_by = judged_queries.read(QUERIES.value), QUERIES.value
    elif (data.folder / QUERY_PAIRS).exists():
        queries, judged_by = judged_queries.held_out(data.folder / QUERY_PAIRS, split=SPLIT.value), "held-out clicks"
    clicked = held_out(data, split=SPLIT.value)
    encoder = vl.load(workdir, step=step)
    splits = {
        name: embedding.embed(encoder, data.records(name), progress=Progress(f"embed {name}"))
        for name in dict.fromkeys([SPLIT.value, "train", "validation"])
    }
    progress = Progress("evaluate", unit="tasks")
    results = suite.run(
        splits[SPLIT.value],
        train=splits["train"],
        validation=splits["validation"],
        tasks=TASKS.value,
        encoder=encoder,
        others={"untrained": encoder.untrained()} | published,
        records={"test": data.records(SPLIT.value)} | {name: data.records(name) for name in ("train", "validation")},
        queries=queries,
        clicked=clicked,
        index=in_memory if APPROXIMATE.value else None,
        pairs=pairs,
        fine_tune=encoder.fine_tune,
        thorough=THOROUGH.value,
        seed=SEED.value,
        progress=lambda done, total, name: progress(done, total),
    )
    slices.add(results, seed=SEED.value)
    write_json(out / "metrics.json", results.metrics)
    comparison.save(out, results)
    seen = encoder.data["fingerprint"] == data.fingerprint
    note = "the data of the training run" if seen else "OTHER data than the run was trained on: splits may overlap"
    info = {
        "run": str(workdir),
        "model": f"{encoder.name}, step {encoder.step:,}",
        "space": encoder.space_id,
        "data": f"{data.folder} (fingerprint {data.fingerprint[:12]}), {note}",
        "split": f"{SPLIT.value}, {len(splits[SPLIT.value]):,} products{_CHOSEN_HERE if SPLIT.value != 'test' else ''}",
        "queries": judged_by,
    } | {method: f"{name}, as it is" for method, name in zip(published, BASELINE.value, strict=True)}
    history = [*read_metrics(workdir), *following.curves(out, report.HEADLINE_KEYS)]
    report.write_report(out / "report.html", results, history=history, info=info, seed=SEED.value)
    print(summary(results))
    print(f"data     {note}")
    print(f"wrote    {out / 'metrics.json'} and {out / 'report.html'}")
    return results.metrics


def _published(names: list[str]) -> dict[str, Encoder]:
    """Method -> the encoder of each folder.

    Errors: UserError for a folder that cannot be used, or two of one name.
    """
    from ecommerce_vl.evaluation.context import published
    from ecommerce_vl.zero_shot import from_pretrained

    found = {}
    for name in names:
        method = published(Path(name).resolve().name)
        if method in found:
            raise UserError(f"--baseline={','.join(names)} has two of one name, {method}; expected different ones")
        found[method] = from_pretrained(name)
    return found


def _follow(out: Path) -> None:
    from ecommerce_vl.evaluation import following
    from ecommerce_vl.training.checkpoint import Checkpoints
    from ecommerce_vl.training.schedule import make_stages
    from ecommerce_vl.training.workdir import read_config

    workdir = Path(WORKDIR.value)
    # Every file is written whole or not at all, so a stop may come at any moment.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(doors.PREEMPTED))

    def steps() -> list[int]:
        # Made anew each time: it remembers what it saw when it was made, and makes the folder where there is none.
        if not (workdir / "config.json").exists() or not (workdir / "checkpoints").is_dir():
            return []
        checkpoints = Checkpoints(workdir / "checkpoints")
        found = checkpoints.steps()
        checkpoints.close()
        return found

    def measure(step: int) -> dict[str, dict] | None:
        try:
            return _measure(out, step=step)
        except UserError as error:
            if step in steps():
                raise
            print(f"passed   step {step:,}: {error}")
            return None

    print(f"follow   {workdir}; waiting for its checkpoints")
    last_step = lambda: make_stages(read_config(workdir))[-1].end_step
    following.follow(out, steps=steps, measure=measure, last_step=last_step)
    print(f"finished {workdir} has reached its last step")


def _compare(out: Path) -> None:
    if len(COMPARE.value) != 2:
        raise UserError(f"--compare={','.join(COMPARE.value)} names {len(COMPARE.value)} folders; expected two: A,B")
    a, b = (Path(folder) for folder in COMPARE.value)
    for folder in (a, b):
        if not (folder / "metrics.json").exists():
            raise UserError(f"no evaluation at {str(folder)!r}: metrics.json is missing; write it with --out={folder}")
    from ecommerce_vl.evaluation import comparison, comparison_page
    from ecommerce_vl.files import write_json

    differences = comparison.compare(a, b)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", differences)
    comparison_page.write(out / "comparison.html", a, b, differences)
    print(comparison_page.summary(a, b, differences))
    print(f"wrote    {out / 'comparison.json'} and {out / 'comparison.html'}")


if __name__ == "__main__":
    doors.run(main, door="evaluate")
