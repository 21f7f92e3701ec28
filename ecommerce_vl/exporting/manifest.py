"""The manifest: what the vectors of a folder are, made by reading the written files back.

Invariants: ids are unique over all parts; the numbers come from the files, not from the memory of the job; no time and
no path, so two exports of the same model and data have the same manifest.
"""

from __future__ import annotations

import collections
import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ecommerce_vl import __version__
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting.parts import Receipt, ViewEncoder

FILE = "manifest.json"
SCHEMA_VERSION = 1
METRIC = "ip"
GOLDEN = 8  # rows that a consumer compares after loading
SAMPLE = 1000  # rows of the mean pairwise cosine
PACKAGES = ("jax", "flax", "numpy", "pyarrow", "pillow", "simplejpeg", "tokenizers")  # that decide vectors or bytes


def build(
    encoder: ViewEncoder, *, out: Path, receipts: Sequence[Receipt], data: PreparedData, split: str, pictures: bool
) -> dict[str, Any]:
    """The manifest of the parts in `out`.

    Errors: UserError if all products were rejected; RuntimeError if an id is in two rows, or a part holds other rows
    than its receipt.
    """
    reasons = collections.Counter(reason for receipt in receipts for _, reason, _ in receipt.rejects)
    if not any(receipt.rows for receipt in receipts):
        raise UserError(
            f"no product of --split={split} can be embedded ({sum(reasons.values())} rejected, "
            f"see {out / 'rejects.parquet'}); expected a readable picture or a title"
        )
    facts = _read_back(out, receipts)
    return {
        "schema_version": SCHEMA_VERSION,
        "space_id": encoder.space_id,
        "model": {
            "name": encoder.name,
            "digest": encoder.digest,
            "step": int(encoder.step),
            "trained_on": encoder.trained_on,
        },
        "dims": encoder.dim,
        "normalized": True,
        "metric": METRIC,
        "preprocess": dict(encoder.preprocess),
        "text": dict(encoder.text),
        "fusion": dict(encoder.fusion),
        "rows": sum(receipt.rows for receipt in receipts),
        "shards": [
            {"path": one.path, "rows": one.rows, "sha256": one.sha256, "min_id": one.min_id, "max_id": one.max_id}
            for one in receipts
        ],
        "thumbnails": pictures,
        "rejects": {"count": sum(reasons.values()), "by_reason": dict(sorted(reasons.items()))},
        **facts,
        "data": {"name": data.folder.resolve().name, "fingerprint": data.fingerprint, "split": split},
        "created_by": {"ecommerce_vl": __version__, "versions": versions()},
    }


def versions() -> dict[str, str]:
    """Versions of the packages that decide vectors or bytes; those that are not installed are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _read_back(out: Path, receipts: Sequence[Receipt]) -> dict[str, Any]:
    """`golden` rows and `health`, one part in memory at a time."""
    total = sum(receipt.rows for receipt in receipts)
    golden_rows = set(_spread(total, GOLDEN))
    sample_rows = _spread(total, SAMPLE)
    ids: set[str] = set()
    distinct: set[bytes] = set()
    masks: collections.Counter = collections.Counter()
    golden, sampled, norms, first = [], [], [], 0
    for receipt in receipts:
        table = pq.read_table(out / receipt.path, columns=["product_id", "embedding", "modality_mask"])
        own = table["product_id"].to_pylist()
        if len(own) != receipt.rows:
            raise RuntimeError(f"{receipt.path} holds {len(own)} rows; its receipt says {receipt.rows}")
        before = len(ids)
        ids.update(own)
        if len(ids) != before + len(own):
            raise RuntimeError(f"{receipt.path} repeats an id of its own or of an earlier part; ids must be unique")
        vectors_NxD = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(own), -1)
        norms_N = np.linalg.norm(vectors_NxD.astype(np.float64), axis=1)
        norms += [norms_N.min(), norms_N.max()] if len(own) else []
        masks.update(table["modality_mask"].to_pylist())
        distinct.update(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in vectors_NxD)
        inside = sample_rows[(sample_rows >= first) & (sample_rows < first + len(own))] - first
        sampled.append(vectors_NxD[inside])
        golden += [
            {
                "product_id": own[row],
                "first8": [float(value) for value in vectors_NxD[row, :8]],
                "norm": round(float(norms_N[row]), 6),
            }
            for row in range(len(own))
            if first + row in golden_rows
        ]
        first += len(own)
    health = {
        "with_image": sum(count for mask, count in masks.items() if mask & 1),
        "with_text": sum(count for mask, count in masks.items() if mask & 2),
        "duplicate_vector_rate": round(1 - len(distinct) / total, 6),
        "mean_pairwise_cosine": mean_pairwise_cosine(np.concatenate(sampled)),
        "norm_min": round(float(min(norms)), 6),
        "norm_max": round(float(max(norms)), 6),
    }
    return {"golden": golden, "health": health}


def mean_pairwise_cosine(vectors_NxD: np.ndarray) -> float | None:
    """Mean inner product of all pairs of different rows, 6 digits; None for fewer than two rows.

    Near 1 all products lie in one place: the space tells nothing apart.
    """
    count = len(vectors_NxD)
    if count < 2:
        return None
    # |sum|^2 holds every pair twice and every row with itself once.
    rows = vectors_NxD.astype(np.float64)
    own = float((rows * rows).sum())
    return round((float((rows.sum(axis=0) ** 2).sum()) - own) / (count * (count - 1)), 6)


def _spread(total: int, count: int) -> np.ndarray:
    """Up to `count` rows of `total`, evenly spaced."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
