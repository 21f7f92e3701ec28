"""Labelled pairs of listings from a file: the benchmarks of product matching, and a team's own judgements.

A line of JSON a pair, plain or gzipped: `left` and `right` (records, `title` and perhaps `image` or `images`, paths
relative to the file), `match` (0 or 1), and perhaps `split` (train, validation or test; without it all pairs are test).
The invariant: a file is read whole or refused with the line that is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecommerce_vl.errors import UserError
from ecommerce_vl.files import numbered_lines

_SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class PairFile:
    """P pairs of listings. Shapes: left and right, P records; match bool (P,); splits, P names of splits."""

    name: str
    left: list[Mapping[str, Any]]
    right: list[Mapping[str, Any]]
    match: np.ndarray
    splits: np.ndarray


def read(path: str | Path) -> PairFile:
    """The pairs of a .jsonl or .jsonl.gz file, named after it.

    Errors: UserError for a file that cannot be read, and for the first line that is no pair.
    """
    path = Path(path)
    left, right, match, splits = [], [], [], []
    try:
        for number, line in numbered_lines(path):
            row = _row(line, where=f"{path}, line {number}")
            left.append(_record(row["left"], folder=path.parent))
            right.append(_record(row["right"], folder=path.parent))
            match.append(bool(row["match"]))
            splits.append(_SPLITS[row.get("split") or "test"])
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the pairs of {path}: {error}; expected .jsonl or .jsonl.gz") from error
    if "test" not in splits:
        raise UserError(f"{path} has {len(match)} pairs and none of split test; there is nothing to measure")
    return PairFile(path.name.split(".")[0], left, right, np.array(match, bool), np.array(splits))


def _row(line: str, *, where: str) -> dict[str, Any]:
    expected = 'expected {"left": {"title": ...}, "right": {...}, "match": 0 or 1, "split": train, validation or test}'
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is no JSON ({error.msg}); {expected}") from error
    sides = [row.get(side) for side in ("left", "right")] if isinstance(row, dict) else []
    if not sides or not all(isinstance(side, dict) for side in sides):
        raise UserError(f"{where} lacks left or right; {expected}")
    if not isinstance(row.get("match"), int) or row["match"] not in (0, 1):
        raise UserError(f"{where} has match {row.get('match')!r}; {expected}")
    if (row.get("split") or "test") not in _SPLITS:
        raise UserError(f"{where} has split {row['split']!r}; {expected}")
    return row


def _record(side: Mapping[str, Any], *, folder: Path) -> dict[str, Any]:
    pictures = side.get("images") or side.get("image") or []
    pictures = [pictures] if isinstance(pictures, str) else pictures
    return {"title": side.get("title") or "", "images": [str(folder / picture) for picture in pictures]}
