"""What a task family may read. A family is one file with `run(context, results)`; `suite.py` lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ecommerce_vl.evaluation.products import EmbeddedProducts


@dataclass(frozen=True)
class Context:
    """The splits of one evaluation: `test` is measured, `train` gives neighbours and probes, `validation` choices.

    encoder: what embeds words and compositions (`ecommerce_vl.encoder.Encoder`); None where only vectors are known,
    and then a task that needs it is skipped by name;
    queries: queries with graded judgements of products, or None;
    seed: of bootstrap, baselines and whatever is drawn.
    """

    test: EmbeddedProducts
    train: EmbeddedProducts
    validation: EmbeddedProducts
    encoder: Any = None
    queries: Any = None
    seed: int = 0
