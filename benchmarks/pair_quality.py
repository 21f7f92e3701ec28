"""Does a seed model find wrong pictures? Plants some in its vectors, and counts where the ranking puts them.

    python -m benchmarks.pair_quality --data=DATA --vectors=VECTORS [--share=0.05] [--seeds=3]

VECTORS is what export made of DATA with a seed model (`prepare --vectors`). A share of the train products gets the
picture's vector of another of them, drawn from all, or from the same leaf category, which is as hard as it gets. What
is ranked, and how, is `data/seed_model/agreement.py`; a model of two towers embeds a wrong picture as any other.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.seed_model import agreement
from ecommerce_vl.data.seed_model.settings import Settings
from ecommerce_vl.data.seed_model.vectors import SeedVectors, open_vectors
from ecommerce_vl.exporting.reader import ExportedVectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.05, help="of the train products, and what is left out")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    data, seed = PreparedData(args.data), ExportedVectors(args.vectors).seed_vectors()
    print("| wrong picture of | of the lowest are wrong | of the wrong are among the lowest | AUC |\n|---|---|---|---|")
    for name, by_leaf in (("any product", False), ("a product of the leaf category", True)):
        found = [
            measure(data, seed, share=args.share, by_leaf=by_leaf, rng_seed=number) for number in range(args.seeds)
        ]
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in np.mean(found, axis=0)) + " |", flush=True)


def measure(data: PreparedData, seed: SeedVectors, *, share: float, by_leaf: bool, rng_seed: int) -> list[float]:
    """Precision and recall of the lowest `share`, and the area under the curve, of planted pictures that are ranked."""
    image = seed.columns["image"]
    table = pa.concat_tables(pq.read_table(file) for file in seed.files)
    ids = table["product_id"].to_pylist()
    rows = data.rows("train")
    leaf_of = dict(zip(rows["id"], rows["category"], strict=True))
    rng = np.random.default_rng(rng_seed)
    train = [row for row, name in enumerate(ids) if name in leaf_of]
    chosen = rng.choice(train, int(share * len(train)), replace=False)
    source = np.arange(len(ids))
    groups = defaultdict(list)
    for row in chosen:
        groups[leaf_of[ids[row]] if by_leaf else ""].append(row)
    for rows in groups.values():
        source[rows] = np.roll(rows, 1)  # each has the picture of the one before; one alone keeps its own
    wrong = {ids[row] for row in np.flatnonzero(source != np.arange(len(ids)))}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.parquet"
        column = table.column_names.index(image)
        pq.write_table(table.set_column(column, image, table[image].take(pa.array(source))), file)
        planted = dataclasses.replace(seed, files=[file])
        with open_vectors(data.folder, planted, memory_limit="2GB") as connection:
            options = {"fingerprint": data.fingerprint, "min_category": Settings().min_category}
            agreement.write_agreement(connection, planted, Path(folder) / agreement.FILE, **options)
        ranked = pq.read_table(Path(folder) / agreement.FILE).to_pylist()
    is_wrong = np.array([row["id"] in wrong for row in ranked])
    rank = np.array([row["rank"] for row in ranked])
    lowest = rank < share
    return [is_wrong[lowest].mean(), lowest[is_wrong].mean(), roc_auc_score(is_wrong, -rank)]


if __name__ == "__main__":
    main()
