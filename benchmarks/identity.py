"""Precision and recall of the identity rules on labelled pairs: python benchmarks/identity.py --data=DIR

DIR holds `myntra` (groups of listings with one picture), `magento_luma` (colours of 185 products) and `text_matching`
(pairs of listings of different shops), each as its README says. Pictures and titles go through `relate` as in a
preparation. The labelled pairs have titles only, which is less than `relate` asks for, so they get a rule of their own:
logistic regression on six similarities, its weights from all train pairs together, its threshold from validation pairs;
ProMap, which has test pairs only, gets weights and threshold from the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from ecommerce_vl.data.identity import LISTING_FIELDS, IdentitySettings, relate
from ecommerce_vl.data.image_hash import distances, perceptual_hash, stack
from ecommerce_vl.data.near_duplicates import NUMBER_WORDS, normal_title, pack_size, title_bands

NONE = IdentitySettings(**{name: False for name in ("catalog_ids", "gtins", "brand_mpns", "exact_duplicates")})
NONE = dataclasses.replace(NONE, near_duplicates=False, item_groups=False)
RULES = {
    "equal picture and title": {"exact_duplicates": True},
    "distance <= 32, Jaccard >= 0.9": {"near_duplicates": True, "max_hash_distance": 32},
    "distance <= 16, Jaccard >= 0.9": {"near_duplicates": True, "max_hash_distance": 16},
}
WITH_TRAIN = ("abt_buy", "walmart_amazon", "amazon_google")
TEST_ONLY = ("promap_en", "promap_cz", "promap_multi")
# The README's F1 of character TF-IDF of titles; of ProMap with a threshold chosen on the test pairs.
NAIVE = dict(zip((*WITH_TRAIN, *TEST_ONLY), (0.63, 0.46, 0.55, 0.63, 0.65, 0.61), strict=True))
WORDS = re.compile(r"[^\W_]+(?:[.,]\d+)*")
QUANTITY = re.compile(r"\d+(?:[gmt]b|[cm]?m|in|inch|ml|kg|oz|[mg]?hz|w|watts?|v|mah|ct|pk|pack|ft|lbs?|mp|dpi|rpm|btu)")
Pair = tuple[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled data")
    data = parser.parse_args().data
    print("| data | rule | labelled | found | precision | recall | F1 | naive F1 |\n|---|---|---|---|---|---|---|---|")
    for row in itertools.chain(picture_rows(data), title_rows(data / "text_matching")):
        print("| " + " | ".join(row) + " |", flush=True)


def picture_rows(data: Path) -> Iterator[list[str]]:
    """Lines of the table for listings with pictures."""
    for name, label, color in (("myntra", "same_picture_group", "baseColour"), ("magento_luma", "group_id", "color")):
        rows = [json.loads(line) for line in (data / name / "products.jsonl").open(encoding="utf-8")]
        rows = [row for row in rows if row["images"]]
        hashes = [perceptual_hash(Image.open(data / name / row["images"][0]).convert("RGB")) for row in rows]
        truth = _pairs_of_groups(row.get(label) for row in rows)
        for limit in (0, 32):
            yield _line(name, f"picture alone, distance <= {limit}", truth, set(_close(stack(hashes), limit)))
        colors = [str(row["attributes"].get(color, "")) for row in rows]
        for known, values in (("", [""] * len(rows)), (", colours known", colors)):
            for rule, switches in RULES.items():
                settings = dataclasses.replace(NONE, **switches)
                yield _line(
                    name, rule + known, truth, _related([row["title"] for row in rows], hashes, values, settings)
                )


def title_rows(folder: Path) -> Iterator[list[str]]:
    """Lines of the table for labelled pairs of titles."""
    sets = {name: _labelled(folder / f"{name}.jsonl.gz") for name in (*WITH_TRAIN, *TEST_ONLY)}
    similar = {name: similarities(rows) for name, (rows, _, _) in sets.items()}
    train = [(similar[name][sets[name][2] == "train"], sets[name][1][sets[name][2] == "train"]) for name in WITH_TRAIN]
    model = LogisticRegression(class_weight="balanced", max_iter=5000)
    model.fit(*(np.concatenate(parts) for parts in zip(*train, strict=True)))
    score = {name: model.decision_function(similar[name]) for name in sets}
    judged = [(score[name][split == "val"], label[split == "val"]) for name, (_, label, split) in sets.items()]
    pooled = _best_threshold(*(np.concatenate(parts) for parts in zip(*judged, strict=True)))
    for name, (_, label, split) in sets.items():
        test, val = split == "test", split == "val"
        rules = [("title rule, threshold of the others", pooled)]
        if val.any():
            rules = [("title rule", _best_threshold(score[name][val], label[val]))]
        else:  # as the naive figure was found
            rules.append(("title rule, threshold of the test", _best_threshold(score[name], label)))
        for rule, threshold in rules:
            truth, found = (set(np.flatnonzero(x)) for x in (label[test], score[name][test] >= threshold))
            yield _line(name, rule, truth, found, f"{NAIVE[name]:.2f}")


def similarities(pairs: list[dict]) -> np.ndarray:
    """What the title rule weighs, for pairs of listings; (n, 6) float64.

    Cosines of words and of runs of characters by inverse document frequency; letters of the longest model number that
    both name, and whether both name some but none in common; Jaccard of the words with digits; whether packs differ.
    """
    sides = [[_title_and_model(pair[side]) for pair in pairs] for side in ("left", "right")]
    titles = [[title for title, _ in side] for side in sides]
    every = sorted({title for side in titles for title in side})
    cosines = []
    for vectorizer in (
        TfidfVectorizer(analyzer=lambda title: WORDS.findall(normal_title(title))),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True),
    ):
        vectorizer.fit(every)
        left, right = map(vectorizer.transform, titles)
        cosines.append(np.asarray(left.multiply(right).sum(axis=1)).ravel())
    rest = [
        (*_model_evidence(f"{a} {own_a}", f"{b} {own_b}"), _number_jaccard(a, b), pack_size(a) != pack_size(b))
        for (a, own_a), (b, own_b) in zip(*sides, strict=True)
    ]
    return np.column_stack([*cosines, np.array(rest, np.float64)])


def _title_and_model(listing: dict) -> tuple[str, str]:
    """A listing's title, and the model numbers among its attributes."""
    named = (
        str(value) for name, value in (listing["attributes"] or {}).items() if re.search("model|part num", name, re.I)
    )
    return listing["title"], " ".join(named)


def _model_evidence(a: str, b: str) -> tuple[float, bool]:
    """Tens of characters of the longest model number that both sides name, and whether they name different ones only.

    "nn4-ts-blk" is "nn4tsblk": a number of one side is looked for in the other without blanks and marks.
    """
    models = [_model_numbers(text) for text in (a, b)]
    plain = [re.sub(r"[\W_]+", "", normal_title(text)) for text in (a, b)]
    shared = [number for number in models[0] if number in plain[1]] + [n for n in models[1] if n in plain[0]]
    return max(map(len, shared), default=0) / 10, bool(models[0] and models[1] and not shared)


def _model_numbers(text: str) -> set[str]:
    """Words with digits that are long enough to tell products apart, and no quantities such as "500gb"."""
    words = (re.sub(r"[\W_]+", "", word) for word in normal_title(text).split())
    long = (word for word in words if len(word) >= (5 if word.isdigit() else 4) and any(map(str.isdigit, word)))
    return {word for word in long if not QUANTITY.fullmatch(word)}


def _number_jaccard(a: str, b: str) -> float:
    left, right = (set(NUMBER_WORDS.findall(normal_title(title))) for title in (a, b))
    return len(left & right) / len(left | right) if left or right else 0.5  # no numbers say neither yes nor no


def _labelled(file: Path) -> tuple[list[dict], np.ndarray, np.ndarray]:
    """Pairs of a file, whether each is a match, and its split."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    split = np.array([{"valid": "val"}.get(row["split"], row["split"]) for row in rows])
    return rows, np.array([bool(row["match"]) for row in rows]), split


def _best_threshold(score: np.ndarray, label: np.ndarray) -> float:
    """The score from which on "same product" has the best F1."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(label[order])
    return float(score[order][np.argmax(2 * hits / (np.arange(1, len(label) + 1) + label.sum()))])


def _related(titles: list[str], hashes: list[bytes], colors: list[str], settings: IdentitySettings) -> set[Pair]:
    """All pairs that the rules call one product; every listing has a seller of its own, so none is dropped."""
    size = len(titles)
    columns = {name: [""] * size for name in LISTING_FIELDS} | {"title": titles, "color": colors}
    columns["seller_id"] = [str(row) for row in range(size)]
    digests = [int.from_bytes(hashlib.sha256(title.encode()).digest()[:8], "big") for title in titles]
    columns |= {
        "row": pa.array(range(size), pa.int64()),
        "title_hash": pa.array(digests, pa.uint64()),
        "image_hash": pa.array(hashes, pa.binary()),
        "title_bands": pa.array([title_bands(title) for title in titles], pa.list_(pa.uint64())),
    }
    connection = duckdb.connect()
    connection.register("listings", pa.table(columns))
    relate(connection, settings=settings)
    group = list(range(size))
    for a, b in connection.execute("SELECT a, b FROM relations WHERE relation = 'same_product'").fetchall():
        group = [group[a] if own == group[b] else own for own in group]
    sizes = np.bincount(group, minlength=size)
    return _pairs_of_groups(own if sizes[own] > 1 else None for own in group)


def _close(hashes: np.ndarray, limit: int) -> Iterator[Pair]:
    for row in range(len(hashes)):
        yield from ((row, row + 1 + int(b)) for b in np.flatnonzero(distances(hashes[row], hashes[row + 1 :]) <= limit))


def _pairs_of_groups(groups: Iterable) -> set[Pair]:
    rows_of: dict = defaultdict(list)
    for row, group in enumerate(groups):
        if group is not None:
            rows_of[group].append(row)
    return {pair for rows in rows_of.values() for pair in itertools.combinations(rows, 2)}


def _line(name: str, rule: str, truth: set, found: set, naive: str = "") -> list[str]:
    hits = len(truth & found)
    precision, recall = (hits / len(pairs) if pairs else math.nan for pairs in (found, truth))
    f1 = 2 * hits / (len(found) + len(truth))
    return [name, rule, str(len(truth)), str(len(found)), f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}", naive]


if __name__ == "__main__":
    main()
