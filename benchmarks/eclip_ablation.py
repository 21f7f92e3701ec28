"""What the parts of e-CLIP are worth: labels, batches, objective; arms over seeds, one table (benchmarks/ablation.py).

    python -m benchmarks.eclip_ablation --data=DATA --out=RUNS [--seeds=3] [--arms full one_hot …]

The recipe is that of the quickstart, with a quarter of the rows drawn two and two of one catalog; equal samples in all
arms. `micro_batches` has the negatives that plain accumulation of four parts would have; `small` and `scheduled` have
batches of a quarter, or grow from there to the whole, with the rate by the root of the batch. Measured: a listing finds
the other sellers' listings of its product, by picture, title and both; a picture finds its title; leaf category from
both, by a linear probe.
"""

from __future__ import annotations

from pathlib import Path

import ecommerce_vl as vl
from benchmarks.ablation import ablate, arguments
from benchmarks.item_ablation import leaf_accuracy, means
from configs import quickstart
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.evaluation import embedding, retrieval
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.products import VIEWS

BATCH, PARTS = quickstart.get_config().batch_size, 4
SMALL = BATCH // PARTS
PAIRED = {"data.catalog_pairs": 0.25}
SMALLER = {"batch_size": SMALL, "optimizer.learning_rate": quickstart.get_config().optimizer.learning_rate / PARTS**0.5}
ARMS = {
    "full": PAIRED,
    "half": PAIRED | {"catalog_alpha": 0.5},
    "one_hot": PAIRED | {"label_mode": "one_hot"},
    "mask": PAIRED | {"label_mode": "mask"},
    "natural": {},
    "natural_one_hot": {"label_mode": "one_hot"},
    "micro_batches": PAIRED | {"loss.span": SMALL},
    "sigmoid": PAIRED | {"loss.objective": "sigmoid"},
    "small": PAIRED | SMALLER,
    "scheduled": PAIRED | SMALLER | {"batch_schedule": (SMALL, 2 * SMALL, BATCH)},
}
SETTINGS = [setting for setting in retrieval.SETTINGS if setting.task == "same_product" or setting.name == "i2t"]


def measure(workdir: Path, data: Path, split: str) -> dict[str, float]:
    """Column -> value; NaN for what the data does not allow."""
    encoder, prepared = vl.load(workdir), PreparedData(data)
    splits = {
        name: embedding.embed(encoder, prepared.records(name), progress=lambda done, total: None)
        for name in dict.fromkeys((split, "train", "validation"))
    }
    context = Context(test=splits[split], train=splits["train"], validation=splits["validation"], encoder=encoder)
    found = {setting.name: means(splits[split], setting) for setting in SETTINGS}
    hits = {f"same {view}": found[view]["hit@1"] for view in VIEWS}
    return hits | {"i2t hit@10": found["i2t"]["hit@10"], "leaf": leaf_accuracy(context, "product")}


if __name__ == "__main__":
    parser = arguments(__doc__, arms=ARMS, config="quickstart")
    ablate(parser.parse_args(), get_config=lambda name: quickstart.get_config(), arms=ARMS, measure=measure)
