"""What each part of eSSPR is worth: arms x seeds on one data folder, each arm with the same number of pairs.

    python benchmarks/same_style_ablation.py --data=DATA --out=FOLDER [--clicks=LOG --queries=LOG] [--arms=full,no_pdc]
        [--seeds=3] [--samples=9600] [--split=validation]

Measured is same-style retrieval on a split that was not trained on: the listings of one item group (or catalog), in
five directions. A run that is finished in FOLDER is not made again. Prints a table in Markdown: mean over seeds, and
twice the standard error of that mean. With a log, the arms of mining mine it anew with one constraint off.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

DIRECTIONS = ("product-product", "image-image", "text-text", "image-product", "text-product")
METRICS = ("hit@1", "hit@10")
NO_VIEWS = {"w_pdc": 0.0, "w_loc": 0.0}
LOSSES = {
    "full": {},
    "no_pdc": {"w_pdc": 0.0},
    "no_locality": {"w_loc": 0.0},
    "ppm": NO_VIEWS,
    "ppm_both_only": NO_VIEWS | {"matched_views": ("both",)},
    "image_only": NO_VIEWS | {"matched_views": ("image_only",)},
    "text_only": NO_VIEWS | {"matched_views": ("text_only",)},
    "symmetric": {"symmetric": True},
    "omni_pairs": {"omni_pairs": True},
    "infonce": {"infonce": True},
    "aug_view": {"trans_views": ("text_only", "image_only", "aug_view")},
}
MINING = {
    "mined_without_category": {"category_level": "none"},
    "mined_without_relevance": {"min_pair_rel": 0.0},
    "mined_without_support": {"min_pair_support": 1},
}


def mine_anew(data: Path, folder: Path, args, settings: dict) -> Path:
    """The data with other pairs; its shards stay where they are."""
    from ecommerce_vl.data.logs.mining import SUMMARY, mine_logs

    folder.mkdir(parents=True, exist_ok=True)
    for file in data.iterdir():
        own = file.name in ("item_pairs.parquet", "query_pairs.parquet", SUMMARY)
        if not own and not (folder / file.name).exists():
            (folder / file.name).symlink_to(file.resolve())
    mine_logs(folder, clicks=args.clicks, queries=args.queries, config=settings)
    return folder


def measure(workdir: Path, data: Path, split: str) -> dict[str, float]:
    """ "direction/metric" -> value."""
    import ecommerce_vl as vl
    from ecommerce_vl.data.prepared import PreparedData
    from ecommerce_vl.evaluation import embedding, judged_pairs

    records = PreparedData(data).records(split)
    products = embedding.embed(vl.load(workdir), records, progress=lambda done, total: None)
    keys = products.group_keys if (products.group_keys >= 0).any() else products.catalog_keys
    alike = [np.flatnonzero(keys == key) for key in np.unique(keys[keys >= 0])]
    positives = [(products.ids[i], products.ids[j]) for rows in alike for i, j in itertools.permutations(rows, 2)]
    found = judged_pairs.measure(products, positives)
    return {key: found[key]["value"] for key in (f"{d}/{m}" for d in DIRECTIONS for m in METRICS)}


def run(arm: str, seed: int, data: Path, args) -> dict[str, float]:
    from configs import same_style
    from ecommerce_vl.systems import build_system
    from ecommerce_vl.training.loop import train

    workdir = args.out / f"{arm}-{seed}"
    done = workdir / "figures.json"
    if not done.exists():
        config = same_style.get_config(args.config)
        config.seed, config.total_samples = seed, args.samples
        config.optimizer.warmup_samples = args.samples // 8
        config.data.path = str(data)
        config.loss.update(LOSSES.get(arm, {}))
        config.log_every, config.checkpoint.every_steps = 100, 10_000
        for assignment in args.set:
            key, value = assignment.split("=", 1)
            config.update_from_flattened_dict({key: type(config_value(config, key))(json.loads(value))})
        workdir.mkdir(parents=True, exist_ok=True)
        train(config.to_dict(), workdir, build_system=build_system, log=lambda line: None)
        done.write_text(json.dumps(measure(workdir, data, args.split)))
        print(f"{arm} seed {seed}: {done.read_text()}", file=sys.stderr, flush=True)
    return json.loads(done.read_text())


def config_value(config, key: str):
    for part in key.split("."):
        config = config[part]
    return config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", default="sample", help="argument of configs/same_style.py")
    parser.add_argument("--set", action="append", default=[], help="a field of the config, such as image.size=32")
    parser.add_argument("--clicks")
    parser.add_argument("--queries")
    parser.add_argument("--arms", default=",".join(LOSSES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=9_600)
    parser.add_argument("--split", default="validation")
    args = parser.parse_args()
    arms = args.arms.split(",")
    if unknown := [arm for arm in arms if arm not in LOSSES | MINING]:
        parser.error(f"--arms has {unknown[0]}; expected some of {', '.join(LOSSES | MINING)}")
    if not args.clicks and any(arm in MINING for arm in arms):
        parser.error("the arms of mining need --clicks")
    print("| arm | " + " | ".join(f"{d} {m}" for d in DIRECTIONS for m in METRICS) + " |")
    print("|---" * (1 + len(DIRECTIONS) * len(METRICS)) + "|")
    for arm in arms:
        data = args.data
        if arm in MINING:
            data = mine_anew(args.data, args.out / f"data-{arm}", args, MINING[arm])
        rows = [run(arm, seed, data, args) for seed in range(args.seeds)]
        cells = []
        for key in rows[0]:
            values = np.array([row[key] for row in rows])
            error = f" ± {2 * values.std(ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3f}{error}")
        print(f"| {arm} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
