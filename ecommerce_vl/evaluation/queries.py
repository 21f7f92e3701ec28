"""Search queries with graded judgements of products: from a file, or the held-out clicks of a log.

One JSON object a line, plain or gzipped:

    {"query_id": "q1", "query": "aa battery", "grades": {"product id": 3, "another": 0}, "count": 120, "locale": "en"}

`id` for `query_id` and `relevance` for `grades` do as well; count (how often it was asked) and locale may be missing.
A grade is a number, which is the gain of nDCG and counts as relevant above 0, or a label of one of `SCALES`: E, S, C
and I of ESCI, Exact, Partial and Irrelevant of WANDS. `"scale": "esci_repo"` in each line takes the gains of the
scoring script of amazon-science/esci-data, which has those of S and C the other way round. Grades of a click log may
have `"propensities": {"product id": 0.2}` beside them, how probable it was that the graded product was seen at all.

The invariant: grades are finite and not negative; 0 is judged and not relevant, a product without a grade not judged;
where a query has propensities, each graded product has one; a file has one scale.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecommerce_vl.errors import UserError
from ecommerce_vl.files import numbered_lines

GRADES = {"purchases": 3.0, "carts": 2.0, "clicks": 1.0}  # of a product, by the most that was done with it
_FORM = 'expected {"query_id": "q1", "query": "words", "grades": {"product id": 0 or more}}'


@dataclass(frozen=True)
class Scale:
    """What grades mean: `labels`, label -> grade; `gains`, grade -> gain of nDCG, itself where it is missing; relevant
    is a grade of at least `relevant_from`."""

    labels: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[float, float] = field(default_factory=dict)
    relevant_from: float = sys.float_info.min  # whatever is above 0

    def gain(self, grades: np.ndarray) -> np.ndarray:
        """Float64, the gain of each grade; NaN stays."""
        gains = np.array(grades, np.float64)
        for grade, gain in self.gains.items():
            gains[np.asarray(grades) == grade] = gain
        return gains


_ESCI = {"E": 3.0, "S": 2.0, "C": 1.0, "I": 0.0}  # Exact, Substitute, Complement, Irrelevant; E and S are relevant
SCALES = {
    "numbers": Scale(),
    "esci": Scale(_ESCI, {3.0: 1.0, 2.0: 0.1, 1.0: 0.01}, relevant_from=2.0),  # 2206.06588
    "esci_repo": Scale(_ESCI, {3.0: 1.0, 2.0: 0.01, 1.0: 0.1}, relevant_from=2.0),
    "wands": Scale({"Exact": 2.0, "Partial": 1.0, "Irrelevant": 0.0}, {2.0: 1.0, 1.0: 0.5}, relevant_from=1.0),
}


@dataclass(frozen=True)
class JudgedQueries:
    """Q queries. Shapes: ids, texts, locales ("" unknown): Q strings; grades: Q mappings of product id to grade;
    counts: float (Q,), how often each was asked, NaN where unknown; propensities: Q mappings of product id to (0, 1],
    empty where the query has none; known: Q sets of products that are right as well but not asked for here, and
    blocks: Q names of what training has not seen, both of a log only; scale: what grades mean."""

    ids: list[str]
    texts: list[str]
    grades: list[dict[str, float]]
    counts: np.ndarray
    locales: list[str]
    propensities: Sequence[Mapping[str, float]] = ()
    known: Sequence[set[str]] = ()
    blocks: Sequence[str] = ()
    scale: Scale = SCALES["numbers"]

    def __len__(self) -> int:
        return len(self.ids)


def read(path: str | Path) -> JudgedQueries:
    """The queries of a file, in its order.

    Errors: UserError with the line for what cannot be read, and for a query id that comes twice.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file of queries at {path}; {_FORM} a line")
    rows, seen, scales = [], {}, {}
    try:
        for number, line in numbered_lines(path):
            *row, scale = _parse(line, where=f"{path}, line {number}")
            if row[0] in seen:
                raise UserError(
                    f"{path}, line {number}: the query id {row[0]!r} came in line {seen[row[0]]} already; give "
                    "each query its own"
                )
            seen[row[0]] = number
            rows.append(row)
            if row[2]:
                scales.setdefault(scale, number)
            if len(scales) > 1:
                found = " and ".join(f"{name} in line {first}" for name, first in scales.items())
                raise UserError(f"{path}: found grades by {found}; expected one scale, or a file of each")
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise UserError(f"{path} is no text in UTF-8, plain or gzipped ({error}); {_FORM} a line") from error
    if not rows:
        raise UserError(f"{path} holds no queries; {_FORM} a line")
    ids, texts, grades, counts, locales, propensities = map(list, zip(*rows, strict=True))
    scale = SCALES[next(iter(scales), "numbers")]
    return JudgedQueries(ids, texts, grades, np.array(counts, np.float64), locales, propensities, scale=scale)


def held_out(file: str | Path, *, split: str) -> JudgedQueries:
    """The query-product pairs of a mined log that lie in `split`, as judgements by `GRADES`.

    A query asks once in each of its blocks (in_domain, novel_query, novel_product, novel_both): pairs of the other
    blocks and splits are `known` there, since they are right too.

    Args:
      file: `query_pairs.parquet` of a preparation.
    """
    table = pq.read_table(file, columns=["query_key", "query", "product_id", *GRADES, "split", "block"])
    wanted = table.filter(pc.equal(table["split"], split))["query_key"].combine_chunks()
    products: dict[int, dict[str, float]] = {}
    asked: dict[tuple[int, str], list[str]] = {}
    texts, counts = {}, {}
    for row in table.filter(pc.is_in(table["query_key"], value_set=wanted)).to_pylist():
        key, name = row["query_key"], row["product_id"]
        products.setdefault(key, {})[name] = next(grade for action, grade in GRADES.items() if row[action])
        texts[key], counts[key] = row["query"], counts.get(key, 0) + row["clicks"]
        if row["split"] == split:
            asked.setdefault((key, row["block"]), []).append(name)
    places = sorted(asked)
    return JudgedQueries(
        ids=[f"{key}/{block}" for key, block in places],
        texts=[texts[key] for key, _ in places],
        grades=[{name: products[place[0]][name] for name in asked[place]} for place in places],
        counts=np.array([counts[key] for key, _ in places], np.float64),
        locales=[""] * len(places),
        known=[products[place[0]].keys() - set(asked[place]) for place in places],
        blocks=[block for _, block in places],
    )


def _parse(line: str, *, where: str) -> tuple[str, str, dict[str, float], float, str, dict[str, float], str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); {_FORM}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: found {type(row).__name__}; {_FORM}")
    name, text, grades = (_first(row, names) for names in (("query_id", "id"), ("query",), ("grades", "relevance")))
    if name in (None, "") or not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: found query_id {name!r} and query {text!r}; {_FORM}")
    if not isinstance(grades, Mapping):
        raise UserError(f"{where}: found {grades!r} in the grades; {_FORM}")
    given = [grade for grade in grades.values() if isinstance(grade, str)]
    by_labels = (name for name in SCALES if given and SCALES[name].labels.keys() >= {*given})
    scale = row.get("scale") or next(by_labels, "numbers")
    if not isinstance(scale, str) or scale not in SCALES:
        raise UserError(f"{where}: found scale {scale!r}; expected one of {', '.join(SCALES)}")
    labels = SCALES[scale].labels
    wrong = [grade for grade in grades.values() if not (grade in list(labels) if labels else _is_grade(grade))]
    if wrong:
        known = "; ".join(f"{name} {', '.join(one.labels)}" for name, one in SCALES.items() if one.labels)
        expected = f"expected {', '.join(labels)}" if labels else f"{_FORM}, or labels: {known}"
        raise UserError(f"{where}: found {wrong[0]!r} in the grades, by {scale}; {expected}")
    grades = {name: labels[grade] if labels else grade for name, grade in grades.items()}
    count = _first(row, ("count", "frequency"))
    if count is not None and not _is_grade(count):
        raise UserError(f"{where}: found count {count!r}; expected how often the query was asked, or no count")
    known = math.nan if count is None else float(count)
    propensities = row.get("propensities") or {}
    if propensities and not (isinstance(propensities, Mapping) and propensities.keys() == grades.keys()):
        raise UserError(f"{where}: the propensities name other products than the grades; expected one for each of them")
    if wrong := [value for value in propensities.values() if not (_is_grade(value) and 0 < value <= 1)]:
        raise UserError(f"{where}: found {wrong[0]!r} in the propensities; expected more than 0 and at most 1")
    mapping = lambda values: {str(one): float(value) for one, value in values.items()}
    return str(name), text, mapping(grades), known, row.get("locale") or "", mapping(propensities), scale


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _is_grade(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
