"""What a seed model finds in prepared data: its tables, its figures, and when they are complete."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.seed_model import agreement, duplicates
from ecommerce_vl.data.seed_model.leakage import nearest_in_train
from ecommerce_vl.data.seed_model.settings import Settings
from ecommerce_vl.data.seed_model.vectors import WORK, SeedVectors, open_vectors
from ecommerce_vl.files import write_json

SUMMARY = "seed_model.json"
TABLES = (agreement.FILE, duplicates.FILE)
STEPS = 3


def write_findings(
    data: Path,
    seed: SeedVectors,
    *,
    config: Mapping[str, Any],
    memory_limit: str,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Writes `TABLES` and seed_model.json into prepared data; returns what seed_model.json holds.

    Errors: UserError for settings out of range and vectors of other data.
    """
    settings, fingerprint = Settings(**config), PreparedData(data).fingerprint
    seed.require_data(data, fingerprint)
    partial = lambda name: data / WORK / name
    with open_vectors(data, seed, memory_limit=memory_limit) as connection:
        progress(0, STEPS)
        agreed = agreement.write_agreement(
            connection, seed, partial(agreement.FILE), fingerprint=fingerprint, min_category=settings.min_category
        )
        progress(1, STEPS)
        alike = duplicates.write_duplicates(
            connection,
            partial(duplicates.FILE),
            min_cosine=settings.duplicate_cosine,
            max_partners=settings.max_partners,
            seed=settings.seed,
        )
        progress(2, STEPS)
        near = nearest_in_train(
            connection, min_cosine=settings.leak_cosine, samples=settings.leak_samples, seed=settings.seed
        )
        summary = {
            "space_id": seed.space_id,
            "trained_on": dict(seed.trained_on) if seed.trained_on else None,
            "other_data": bool(seed.trained_on and seed.trained_on["fingerprint"] != fingerprint),
            "settings": dataclasses.asdict(settings),
            "agreement": agreed,
            "duplicates": alike,
            "leakage": near,
        }
        # The summary marks completeness: the old one goes first and the new one comes last.
        (data / SUMMARY).unlink(missing_ok=True)
        for name in TABLES:
            os.replace(partial(name), data / name)
        write_json(data / SUMMARY, summary)
        progress(3, STEPS)
    return summary
