"""The summary of the report: plain sentences about what matters for training, each with what to do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ecommerce_vl.data.report.collisions import BATCHES, FALSE
from ecommerce_vl.data.report.words import counted, number, percent

# Shares and counts from which a finding is a warning. Judgement, not measurement: a page that always warns is not read.
MAX_REJECTED = 0.01
MAX_REPAIRED = 0.01
MAX_WITHOUT_PICTURE = 0.05
MAX_WITHOUT_TITLE = 0.05
MAX_CUT_TITLES = 0.05
MAX_UNCATEGORISED = 0.2
MAX_COMPONENT = 0.01
MAX_ONE_CATEGORY = 0.5
MAX_EXPECTED_COLLISIONS = 0.1
MIN_TRAIN = 10_000
WARNING, NOTE, GOOD = "warning", "note", "good"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One sentence, what to do, and the section (its anchor) that shows the cases."""

    level: str
    sentence: str
    advice: str = ""
    section: str = ""


def verdicts(summary: Mapping[str, Any], figures: Mapping[str, Any]) -> list[Verdict]:
    """Everything worth saying, warnings first.

    Args:
      summary: prepare.json.
      figures: `stages`, `population`, `categories`, `tokens`, `max_tokens`, `conflicts`, `collisions`; see `page.py`.
    """
    found = [
        verdict
        for rule in (_rows, _repairs, _content, _splits, _identity, _titles, _categories, _collisions, _size)
        for verdict in rule(summary, figures)
    ]
    return sorted(found, key=lambda verdict: (WARNING, NOTE, GOOD).index(verdict.level))


def _rows(summary, figures):
    if figures["stages"][-1]["left"] != summary["rows_out"]:
        yield Verdict(
            WARNING,
            f"The rows do not add up: {number(figures['stages'][-1]['left'])} should be left, "
            f"{number(summary['rows_out'])} are.",
            "Do not train on this folder; prepare it again with --overwrite.",
            "stages",
        )
    # Copies are meant to go; what is lost besides is what the feed's owner can mend.
    copies = sum(figures["stages"][-1]["lost"].values())
    lost = [(rows, name) for stage in figures["stages"][:-1] for name, rows in stage["lost"].items()]
    rejected = sum(rows for rows, _ in lost)
    if rejected:
        yield Verdict(
            WARNING if rejected > MAX_REJECTED * summary["rows_in"] else NOTE,
            f"{percent(rejected, summary['rows_in'])} of the rows ({number(rejected)}) were refused, "
            f"most of them as {max(lost)[1]}.",
            "Mend them in the feed and prepare again; rejects.parquet lists every one with its row number.",
            "rejects",
        )
    else:
        yield Verdict(GOOD, "Every row of the feed could be used.", "", "stages")
    if copies:
        yield Verdict(
            NOTE,
            f"{percent(copies, summary['rows_in'])} of the rows ({number(copies)}) were copies of a listing "
            "of the same seller and were dropped.",
            "Look at a few; if they are different products, set --config.identity.near_duplicates=False "
            "or --config.identity.drop_copies=False.",
            "duplicates",
        )


def _repairs(summary, figures):
    repaired = sum(summary["repairs"].values())
    if repaired:
        most = max(summary["repairs"], key=lambda reason: (summary["repairs"][reason], reason))
        yield Verdict(
            WARNING if repaired > MAX_REPAIRED * summary["rows_out"] else NOTE,
            f"{counted(repaired, 'repair')}: pictures or texts that were left out or cut, most of them as {most}; the "
            "products are kept.",
            "Mend them in the feed if they are many.",
            "repairs",
        )
    if summary["placeholders"]:
        yield Verdict(
            NOTE,
            f"{counted(summary['placeholders'], 'picture')} under many different titles, taken for placeholders.",
            "Look at them; if they show products, raise --config.images.placeholder_min_titles.",
            "placeholders",
        )


def _content(summary, figures):
    rows = summary["rows_out"]
    for field, name, limit in (
        ("with_image", "picture", MAX_WITHOUT_PICTURE),
        ("with_title", "title", MAX_WITHOUT_TITLE),
    ):
        without = rows - summary[field]
        if without > limit * rows:
            yield Verdict(
                WARNING,
                f"{percent(without, rows)} of the products have no {name}.",
                f"They add nothing to training on pairs; complete the feed, or see whether the {name} is in a column "
                "that is not mapped (--explain).",
                "pictures" if name == "picture" else "titles",
            )
        elif not without:
            yield Verdict(GOOD, f"Every product has a {name}.")


def _splits(summary, figures):
    split, rows = summary["split"], summary["rows_out"]
    if split["leaking"]:
        yield Verdict(
            WARNING,
            f"{percent(split['leaking'], rows)} of the products ({number(split['leaking'])}) are in a group that the "
            "feed’s own split tears apart; measured quality will look better than it is.",
            "Set --config.split.keep_given=False to draw splits that keep groups together.",
            "leaks",
        )
    else:
        yield Verdict(GOOD, "No group of related products crosses the splits.", "", "leaks")
    empty = [name for name, count in summary["splits"].items() if not count]
    if empty:
        yield Verdict(
            WARNING,
            f"There are no products in {' and '.join(empty)}.",
            "Set --config.split.keep_given=False or --config.split.fractions; without validation and test "
            "nothing can be measured.",
            "leaks",
        )
    if split["cut_edges"]:
        yield Verdict(
            NOTE,
            f"{number(split['cut_edges'])} weak relations were ignored in the split, since they chained products into "
            "groups too large for one side.",
            "Titles or pictures shared by many different products cause this; see the repeated titles.",
            "titles",
        )
    if split["largest_component"] > max(200, MAX_COMPONENT * rows):
        yield Verdict(
            WARNING,
            f"The largest group of related products holds {percent(split['largest_component'], rows)} of the catalog.",
            "Look for a catalog id or item group that stands for many products.",
            "duplicates",
        )


def _identity(summary, figures):
    train = figures["population"][0]
    if not train["known_rows"]:
        yield Verdict(
            NOTE,
            "No product is known to be sold by several listings, so catalog labels change nothing in training.",
            "Add gtin, brand with mpn, or a catalog_id to the feed if sellers share products.",
            "duplicates",
        )
    for kind, rows in summary["ignored_keys"].items():
        yield Verdict(
            WARNING,
            f"{counted(rows, 'product')} with a {kind} that is on too many rows to mean one product; it was ignored.",
            "Clear such defaults in the feed.",
            "duplicates",
        )
    if figures["conflicts"]:
        yield Verdict(
            WARNING,
            f"{counted(figures['conflicts'], 'gtin')} in several categories.",
            "Labels that contradict each other cap every measure of category; mend the categories or the gtins.",
            "conflicts",
        )
    if summary["catalogs"]["conflicts"]:
        yield Verdict(
            WARNING,
            f"{counted(summary['catalogs']['conflicts'], 'product')} with several catalog ids of the feed.",
            "Other evidence says that they are one; look whether catalog ids are given a second time.",
            "duplicates",
        )


def _titles(summary, figures):
    if not figures["tokens"]:
        return
    cut = figures["tokens"][0]["truncated_share"]
    length = figures["max_tokens"]
    if cut > MAX_CUT_TITLES:
        yield Verdict(
            WARNING,
            f"{percent(cut, 1)} of the titles are cut at {length} tokens.",
            "Set --config.text.max_length higher in training, or put what matters first.",
            "titles",
        )
    elif cut:
        yield Verdict(NOTE, f"{percent(cut, 1)} of the titles are cut at {length} tokens.", "", "titles")
    else:
        yield Verdict(GOOD, f"No title is cut at {length} tokens.", "", "titles")
    for row in figures["tokens"][1:]:
        if cut <= MAX_CUT_TITLES < row["truncated_share"] and row["titles"] >= 100:
            yield Verdict(
                WARNING,
                f"{percent(row['truncated_share'], 1)} of the titles in {row['language']} are cut at {length} tokens.",
                "Set --config.text.max_length higher in training.",
                "titles",
            )


def _categories(summary, figures):
    categories, rows = figures["categories"], summary["rows_out"]
    without = rows - categories["products"]
    if without > MAX_UNCATEGORISED * rows:
        yield Verdict(
            WARNING,
            f"{percent(without, rows)} of the products have no category.",
            "Category probes and category-wise mining leave them out; map a column to product_type.",
            "categories",
        )
    if categories["paths"] and len(categories["paths"]) > 1:
        largest = categories["paths"][0]
        if largest["products"] > MAX_ONE_CATEGORY * categories["products"]:
            yield Verdict(
                WARNING,
                f"One category holds {percent(largest['products'], categories['products'])} of the products.",
                "Let training draw rare categories more often.",
                "categories",
            )
    if categories["rare"]:
        yield Verdict(
            NOTE,
            f"{number(categories['rare'])} of {number(categories['leaves'])} categories have fewer than five products "
            "in train.",
            "Merge them if they are the same under two names.",
            "categories",
        )


def _collisions(summary, figures):
    rows = [row for row in figures["collisions"] if row["to_loss"] == FALSE]
    worst = [
        (value, row["name"], batch)
        for row in rows
        for batch, value in zip(BATCHES, row["expected"], strict=True)
        if value is not None and value > MAX_EXPECTED_COLLISIONS
    ]
    if worst:
        batch = min(batch for _, _, batch in worst)
        value, name, _ = max(one for one in worst if one[2] == batch)
        yield Verdict(
            WARNING,
            f"At a batch of {number(batch)} a product meets on average {number(value)} others {name}; "
            "the loss pushes them apart.",
            "Give the loss the identity (catalog_id, gtin) of what is the same, or train with a smaller batch.",
            "collisions",
        )


def _size(summary, figures):
    pairs = figures["population"][0]["pairs"]
    if pairs < MIN_TRAIN:
        yield Verdict(
            NOTE,
            f"Only {number(pairs)} products of train have picture and title.",
            "Enough to try things out; start from pretrained weights for anything else.",
            "splits",
        )
