"""Door: measure a trained run on prepared data and write a report with pictures.

    python -m ecommerce_vl.evaluate --workdir=RUN --data=DATA --split=test --out=EVAL

Writes EVAL/metrics.json and EVAL/report.html. Probes learn from the train split and choose their settings on the
validation split; the measured split is only measured.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from ecommerce_vl import doors

WORKDIR = flags.DEFINE_string("workdir", None, "run directory of the trained system", required=True)
DATA = flags.DEFINE_string("data", None, "folder that prepare wrote", required=True)
SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "what to measure")
OUT = flags.DEFINE_string("out", None, "folder for metrics.json and report.html", required=True)
PAIRS = flags.DEFINE_list("pairs", [], "files of labelled pairs to match, .jsonl or .jsonl.gz, separated by commas")
THOROUGH = flags.DEFINE_boolean("thorough", False, "also what takes minutes: few-shot probes, fine-tuning the encoder")
SEED = flags.DEFINE_integer("seed", 0, "of bootstrap, baselines and the choice of examples")


def main() -> None:
    import ecommerce_vl as vl
    from ecommerce_vl.data.prepared import PreparedData
    from ecommerce_vl.evaluation import embedding, pair_files, report, suite
    from ecommerce_vl.evaluation.summary import summary
    from ecommerce_vl.progress import Progress
    from ecommerce_vl.training.workdir import write_json
    from ecommerce_vl.training.writer import read_metrics

    workdir, out = Path(WORKDIR.value), Path(OUT.value)
    pairs = [pair_files.read(file) for file in PAIRS.value]
    data = PreparedData(DATA.value)
    encoder = vl.load(workdir)
    splits = {
        name: embedding.embed(encoder, data.records(name), progress=Progress(f"embed {name}"))
        for name in dict.fromkeys([SPLIT.value, "train", "validation"])
    }
    progress = Progress("evaluate", unit="tasks")
    results = suite.run(
        splits[SPLIT.value],
        train=splits["train"],
        validation=splits["validation"],
        encoder=encoder,
        untrained=encoder.untrained(),
        records={"test": data.records(SPLIT.value)} | {name: data.records(name) for name in ("train", "validation")},
        pairs=pairs,
        fine_tune=encoder.fine_tune,
        thorough=THOROUGH.value,
        seed=SEED.value,
        progress=lambda done, total, name: progress(done, total),
    )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", results.metrics)
    seen = encoder.data["fingerprint"] == data.fingerprint
    note = "the data of the training run" if seen else "OTHER data than the run was trained on: splits may overlap"
    info = {
        "run": str(workdir),
        "model": f"{encoder.name}, step {encoder.step:,}",
        "space": encoder.space_id,
        "data": f"{data.folder} (fingerprint {data.fingerprint[:12]}), {note}",
        "split": f"{SPLIT.value}, {len(splits[SPLIT.value]):,} products",
    }
    report.write_report(out / "report.html", results, history=read_metrics(workdir), info=info)
    print(summary(results))
    print(f"data     {note}")
    print(f"wrote    {out / 'metrics.json'} and {out / 'report.html'}")


if __name__ == "__main__":
    doors.run(main, door="evaluate")
