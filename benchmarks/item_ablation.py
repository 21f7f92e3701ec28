"""What each objective of ITEm is worth: arms of the loss, several seeds, one table with intervals over the seeds.

    python -m benchmarks.item_ablation --data=DATA --out=RUNS --config=sample --seeds=3 [--arms full -gmlm -gmim …]

Every arm sees the same products in the same order with the same masks for as many samples; only weights of the loss
are zero, and with them the work of their heads. Measured on the test split: same-product hit@1 by picture, title and
both against both, raw and without the training mean; leaf category by a linear probe; the dominance probe. A run that
is finished is not trained again, and one whose numbers are written is not measured again: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

import ecommerce_vl as vl
from configs import item
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.evaluation import centred, dominance, embedding, retrieval, suite
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.loop import train
from ecommerce_vl.training.workdir import write_json

ARMS = {
    "full": (),
    "-gmlm": ("gmlm",),
    "-gmim": ("gmim",),
    "-both": ("gmlm", "gmim"),
    "-mlm": ("mlm",),
    "-mim": ("mim",),
    "-itm": ("itm",),
}
METRICS = {  # column -> key of the evaluation
    "m2m": "same_product/product/hit@1",
    "i2m": "uni_modal/i2m/hit@1",
    "t2m": "uni_modal/t2m/hit@1",
    "m2m c": "centred/m2m/hit@1",
    "i2m c": "centred/i2m/hit@1",
    "t2m c": "centred/t2m/hit@1",
    "leaf": "category/product/linear/top1",
    "leaf i": "category/image/linear/top1",
    "drop i": "dominance/product/drop_img",
    "drop t": "dominance/product/drop_txt",
    "domin.": "dominance/product/dominance",
    "shift i": "dominance/product/shift_img",
    "shift t": "dominance/product/shift_txt",
}
UNI_MODAL = tuple(
    retrieval.Setting("uni_modal", f"{letter}2m", view, "product", "catalog", True, ("hit@1",))
    for letter, view in (("i", "image"), ("t", "text"))
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder that prepare wrote")
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs, one an arm and a seed")
    parser.add_argument("--config", default="sample", help="argument of configs/item.py")
    parser.add_argument("--samples", type=int, default=0, help="products seen by each run; 0 takes those of the config")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    args = parser.parse_args()

    found: dict[str, list[dict]] = {arm: [] for arm in args.arms}
    for seed in range(args.seeds):  # a pass over all arms first, so that a stopped job has comparable rows
        for arm in args.arms:
            run = args.out / f"{arm.replace('-', 'no_')}-{seed}"
            found[arm].append(measure(run, arm, seed=seed, args=args))
            print(f"{arm:6} seed {seed}  " + "  ".join(f"{k} {v:.3f}" for k, v in found[arm][-1].items()), flush=True)
    print_table(found, seeds=args.seeds)


def measure(run: Path, arm: str, *, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Column -> value of one run, trained and measured if it is not yet."""
    file = run / "ablation.json"
    if file.exists():
        return json.loads(file.read_text())
    config = item.get_config(args.config)
    config.seed, config.data.path = seed, str(args.data)
    config.total_samples = args.samples or config.total_samples
    for name in ARMS[arm]:
        config.loss_weights[name] = 0.0
    train(config.to_dict(), run, build_system=build_system, log=lambda line: None)
    values = evaluate(run, PreparedData(args.data))
    write_json(file, values)
    return values


def evaluate(run: Path, data: PreparedData) -> dict[str, float]:
    """Column -> value on the test split; NaN for what the data does not allow."""
    encoder = vl.load(run)
    silent = lambda done, total: None
    splits = {
        name: embedding.embed(encoder, data.records(name), progress=silent) for name in ("test", "train", "validation")
    }
    results = suite.run(splits["test"], train=splits["train"], validation=splits["validation"])
    context = Context(**splits, encoder=encoder)
    dominance.run(context, results)
    centred.run(context, results)
    for setting in UNI_MODAL:
        if retrieval.missing(context.test, setting=setting):
            continue
        pool = retrieval.pool(context.test, setting=setting)
        vectors = context.test.vectors
        ranking = retrieval.rank(
            pool,
            products=context.test,
            setting=setting,
            query_vectors=vectors[setting.query_view],
            document_vectors=vectors[setting.document_view],
        )
        results.add(setting.key, retrieval.measure(ranking, pool=pool, setting=setting))
    return {column: results.metrics.get(key, {}).get("value", float("nan")) for column, key in METRICS.items()}


def print_table(found: dict[str, list[dict]], *, seeds: int) -> None:
    """Means over seeds with half of their 95 % t interval, and the differences to the full loss, seed by seed."""
    half = lambda x: stats.t.ppf(0.975, len(x) - 1) * np.std(x, ddof=1) / np.sqrt(len(x)) if len(x) > 1 else np.nan
    cell = lambda x: f"{np.mean(x):6.3f} ±{half(x):5.3f}"
    print(f"\ntest split, mean of {seeds} seeds ± half of the 95 % interval over seeds")
    print("| arm | " + " | ".join(METRICS) + " |")
    print("| --- |" + " --- |" * len(METRICS))
    for arm, runs in found.items():
        print(f"| {arm} | " + " | ".join(cell([run[column] for run in runs]) for column in METRICS) + " |")
    if "full" not in found or len(found) < 2:
        return
    print("\nminus full, of the same seeds")
    for arm, runs in found.items():
        if arm == "full":
            continue
        gap = {
            column: [run[column] - whole[column] for run, whole in zip(runs, found["full"], strict=True)]
            for column in METRICS
        }
        print(f"| {arm} | " + " | ".join(cell(gap[column]) for column in METRICS) + " |")


if __name__ == "__main__":
    main()
