"""What each part of eSSPR is worth: arms over seeds, one table (`benchmarks/ablation.py`).

    python -m benchmarks.same_style_ablation --data=DATA --out=RUNS --config=sample [--seeds=3] [--arms full no_pdc …]
        [--clicks=LOG --queries=LOG]

Measured is same-style retrieval on a split that was not trained on: the listings of one item group (or catalog), in
five directions. With a log, the arms of mining mine it anew with one constraint off.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

import ecommerce_vl as vl
from benchmarks.ablation import ablate, arguments
from configs import same_style
from ecommerce_vl.data.logs import tables
from ecommerce_vl.data.logs.mining import mine_logs
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.evaluation import embedding, judged_pairs

DIRECTIONS = ("product-product", "image-image", "text-text", "image-product", "text-product")
METRICS = ("hit@1", "hit@10")
NO_VIEWS = {"weights.pdc": 0.0, "weights.locality": 0.0}
LOSSES = {
    "full": {},
    "no_pdc": {"weights.pdc": 0.0},
    "no_locality": {"weights.locality": 0.0},
    "ppm": NO_VIEWS,
    "ppm_both_only": NO_VIEWS | {"loss.matched_views": ("both",)},
    "image_only": NO_VIEWS | {"loss.matched_views": ("image_only",)},
    "text_only": NO_VIEWS | {"loss.matched_views": ("text_only",)},
    "symmetric": {"loss.symmetric": True},
    "omni_pairs": {"loss.omni_pairs": True},
    "infonce": {"loss.infonce": True},
    "aug_view": {"loss.trans_views": ("text_only", "image_only", "aug_view")},
}
MINING = {
    "mined_without_category": {"category_level": "none"},
    "mined_without_relevance": {"min_pair_rel": 0.0},
    "mined_without_support": {"min_pair_support": 1},
}


def measure(workdir: Path, data: Path, split: str) -> dict[str, float]:
    """ "direction metric" -> value."""
    records = PreparedData(data).records(split)
    products = embedding.embed(vl.load(workdir), records, progress=lambda done, total: None)
    keys = products.group_keys if (products.group_keys >= 0).any() else products.catalog_keys
    alike = [np.flatnonzero(keys == key) for key in np.unique(keys[keys >= 0])]
    positives = [(products.ids[i], products.ids[j]) for rows in alike for i, j in itertools.permutations(rows, 2)]
    found = judged_pairs.measure(products, positives)
    return {
        f"{direction} {name}": found[f"{direction}/{name}"]["value"] for direction in DIRECTIONS for name in METRICS
    }


def mined_anew(arm: str, args) -> Path:
    """The data of the arm: for those of mining with other pairs, beside which the shards are linked."""
    if arm not in MINING:
        return args.data
    folder = args.out / f"data-{arm}"
    folder.mkdir(parents=True, exist_ok=True)
    for file in args.data.iterdir():
        own = file.name in (*tables.SCHEMAS, tables.SUMMARY)
        if not own and not (folder / file.name).exists():
            (folder / file.name).symlink_to(file.resolve())
    if not (folder / tables.SUMMARY).exists():
        mine_logs(folder, clicks=args.clicks, queries=args.queries, config=MINING[arm])
    return folder


def main() -> None:
    arms = LOSSES | {name: {} for name in MINING}
    parser = arguments(__doc__, arms=arms)
    parser.set_defaults(arms=list(LOSSES))
    parser.add_argument("--clicks")
    parser.add_argument("--queries")
    args = parser.parse_args()
    if not args.clicks and set(args.arms) & set(MINING):
        parser.error("the arms of mining need --clicks")
    ablate(
        args, get_config=same_style.get_config, arms=arms, measure=measure, data_of=lambda arm: mined_anew(arm, args)
    )


if __name__ == "__main__":
    main()
