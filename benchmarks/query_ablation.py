"""What each part of query retrieval is worth: arms over seeds, one table (`benchmarks/ablation.py`).

    python -m benchmarks.query_ablation --data=DATA --out=RUNS --config=myntra --judged=QUERIES [--seeds=3] [--arms …]

Without several devices, a device is `SPAN` rows of the batch: rows of other devices are negatives only with
cross-device negatives ("cdns"), and the bank ("mbns") adds products of earlier steps. Measured is retrieval of
products for the judged queries of a file (`evaluation/queries.py`), over the corpus that `evaluate` takes.
"""

from __future__ import annotations

from pathlib import Path

import ecommerce_vl as vl
from benchmarks.ablation import ablate, arguments
from configs import query_retrieval
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.evaluation import embedding, queries
from ecommerce_vl.evaluation import query_retrieval as searching
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results

SPAN = 16
ONE_DEVICE, NO_BANK = {"loss.span": SPAN}, {"bank.size": 0}
ARMS = {
    "full": {},
    "mpm_regression": {"mpm.form": "regression"},
    "mpm_kl": {"mpm.form": "kl"},
    "mpm_pixels": {"mpm.form": "pixels"},
    "mpm_none": {"weights.mpm": 0.0},
    "in_batch": ONE_DEVICE | NO_BANK,
    "cdns": NO_BANK,
    "mbns": ONE_DEVICE,
    "softmax": {"loss.objective": "softmax"},
    "sigmoid": {"loss.objective": "sigmoid"},
    "cls": {"joint.pool": "cls"},
}
COLUMNS = ("recall@10", "recall@100", "ndcg@10")


def main() -> None:
    parser = arguments(__doc__, arms=ARMS, config="myntra")
    parser.add_argument("--judged", type=Path, required=True, help="file of queries with graded products")
    args = parser.parse_args()
    judged = queries.read(args.judged)

    def measure(workdir: Path, data: Path, split: str) -> dict[str, float]:
        """ "view metric" -> value."""
        encoder, prepared = vl.load(workdir), PreparedData(data)
        silent = lambda done, total: None
        others = [name for name in ("train", "validation", "test") if name != split]
        parts = [embedding.embed(encoder, prepared.records(name), progress=silent) for name in (split, *others)]
        context = Context(test=parts[0], train=parts[1], validation=parts[2], encoder=encoder, queries=judged)
        results = Results(products=context.test)
        searching.run(context, results)
        return {
            f"{view} {name}": results.metrics.get(f"query/{view}/{name}", {}).get("value", float("nan"))
            for view in ("product", "text", "image")
            for name in COLUMNS
        }

    ablate(args, get_config=query_retrieval.get_config, arms=ARMS, measure=measure)


if __name__ == "__main__":
    main()
