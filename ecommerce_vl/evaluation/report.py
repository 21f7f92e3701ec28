"""The report: one HTML page with the tables, curves, a map and pictures of what was found.

The invariant: the page is one file that fetches nothing and runs nothing (no script, no remote font or picture), all
catalog text in it is escaped, and pictures of adult products are blurred. It holds thumbnails, never the originals,
so it can be mailed: a few megabytes. It shows what is in `Results` and measures nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ecommerce_vl import pages
from ecommerce_vl.evaluation import cases, catalog_map, curves, figures, tables
from ecommerce_vl.evaluation.examples import SHOWN
from ecommerce_vl.evaluation.pictures import Cards, leaf
from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.evaluation.slices import MIN_QUERIES
from ecommerce_vl.files import write_text

MAP_PICTURE_PIXELS = 40
# (metric key, sentence): the first line of the page, as far as it was measured.
_HEADLINES = (
    ("image_text/i2t/hit@10", "of the pictures find their title among the first 10 of {candidates:,}"),
    ("image_text/t2i/hit@10", "of the titles find their picture among the first 10 of {candidates:,}"),
    ("same_product/product/hit@1", "of the listings have another listing of the same product as their nearest"),
    ("category/image/linear/top1", "of the leaf categories (of {candidates:,}) are read from the picture alone"),
    ("category/product/linear/top1", "of the leaf categories (of {candidates:,}) are read from picture and title"),
)
HEADLINE_KEYS = tuple(key for key, _ in _HEADLINES)
_MISTAKES = {"accepted": "Accepted, and wrong", "refused": "Refused, and right"}
_CLUSTERS = {
    "whole": ("Found whole", "One cluster, one group, nothing missing."),
    "merged": ("Merged too far", "One cluster of several groups; each colour is a group."),
    "split": ("Split", "One group in several clusters; each colour is a cluster."),
}
_SLICE_COLUMNS = 7


def write_report(
    path: str | Path, results: Results, *, history: Sequence[Mapping], info: Mapping[str, object], seed: int = 0
) -> None:
    """Writes the page to `path`.

    `history`: rows of the training log, {"step": int, "loss": float, …}, any may lack a key; `info`: facts for the
    header (checkpoint, data, versions), label -> value, printed in order; `seed`: of the map's layout.
    Errors: OSError when it cannot be written.
    """
    cards = Cards(results.products)
    environment = pages.environment(Path(__file__).parent)
    environment.filters |= {"number": tables.number, "interval": tables.interval, "named": tables.named}
    page = environment.get_template("report.html").render(
        info=info,
        headlines=[
            (results.metrics[key], sentence.format(**results.metrics[key]))
            for key, sentence in _HEADLINES
            if key in results.metrics
        ],
        tables=tables.tables(results.metrics),
        slices=_slices(results.metrics),
        fewest=MIN_QUERIES,
        confusions=[_confusion(key, one, cards) for key, one in _of(results, figures.Confusion, most=1).items()],
        precision_recall=curves.precision_recall(_of(results, figures.PrecisionRecall, most=9)),
        mistakes=[_mistakes(key, one, cards) for key, one in _of(results, figures.PrecisionRecall, most=4).items()],
        clusters=[_clusters(key, one, cards) for key, one in _of(results, figures.Clusters, most=3).items()],
        values=curves.values(_of(results, figures.Curve, most=9)),
        map=_map(cards, seed=seed),
        training=curves.training(history),
        grids=[_grid(results.grids[key], cards) for key in sorted(results.grids, key=_place)],
        skipped=results.skipped_by_reason(),
        count=len(results.products),
    )
    write_text(Path(path), page)


def _place(key: str) -> int:
    """The shown settings in their order, then the others."""
    return SHOWN.index(key) if key in SHOWN else len(SHOWN)


def _of(results: Results, kind: type, *, most: int) -> dict:
    """At most so many figures of a kind, some of every task; the page would be all pictures otherwise."""
    found = [key for key, figure in results.figures.items() if isinstance(figure, kind)]
    return {key: results.figures[key] for key in tables.representative(found, most=most)}


def _slices(metrics: Mapping[str, dict]) -> dict:
    """The sliced numbers as one table: a column a number, a row a slice, and the whole above them."""
    sliced: dict[str, dict[str, dict]] = {}
    for key, entry in metrics.items():
        number, mark, name = key.partition(tables.SLICE)
        if mark:
            sliced.setdefault(number, {})[name] = entry
    columns = tables.representative(list(sliced), most=_SLICE_COLUMNS)
    rows: dict[str, dict[str, list]] = {}
    for number in columns:
        for name in sliced[number]:
            dimension, _, value = name.partition(":")
            rows.setdefault(dimension, {})[value] = [sliced[one].get(name) for one in columns]
    return {
        "columns": [_column(number) for number in columns],
        "whole": [metrics[number] for number in columns],
        "rows": {
            dimension: dict(sorted(values.items(), key=None if dimension == "group size" else _by_queries))
            for dimension, values in rows.items()
        },
        "more": len(sliced) - len(columns),
    }


def _by_queries(item: tuple[str, list]) -> tuple:
    return (-max(entry["n"] for entry in item[1] if entry), item[0])


def _column(number: str) -> dict:
    task, *parts, metric = number.split("/")
    return {
        "task": tables.describe(task)[0],
        "setting": " · ".join(map(tables.named, parts)),
        "metric": tables.named(metric),
    }


def _name(key: str) -> str:
    task, *parts = key.split("/")
    return " · ".join([tables.describe(task)[0], *map(tables.named, parts)])


def _confusion(key: str, one: figures.Confusion, cards: Cards) -> dict:
    classes = [
        {
            "name": worst.name,
            "n": worst.n,
            "right": worst.right,
            "taken_for": [(leaf(name), name, count) for name, count in worst.taken_for],
            "cards": [cards.card(row, caption=f"✗ {leaf(name)}") for row, name in worst.cases],
        }
        for worst in cases.worst_classes(one)
    ]
    return {"name": _name(key), "classes": classes, "n": len(one.true), "total": len(one.classes)}


def _mistakes(key: str, one: figures.PrecisionRecall, cards: Cards) -> dict:
    kinds = [
        (_MISTAKES[kind], [([cards.card(row) for row in rows], score) for rows, score in found])
        for kind, found in cases.surest_mistakes(one).items()
    ]
    return {"name": _name(key), "chosen_on": one.chosen_on, "threshold": one.threshold, "kinds": kinds}


def _clusters(key: str, one: figures.Clusters, cards: Cards) -> dict:
    kinds = [
        (*_CLUSTERS[kind], [[cards.card(row, number=number) for row, number in members] for members in found])
        for kind, found in cases.odd_clusters(one).items()
    ]
    histograms = (("clusters found", one.predicted), ("groups there are", one.true))
    return {
        "name": _name(key),
        "kinds": kinds,
        "sizes": [(name, cases.size_histogram(numbers)) for name, numbers in histograms],
    }


def _map(cards: Cards, *, seed: int) -> dict | None:
    products = cards.products
    made = catalog_map.make(products, seed=seed)
    if made is None:
        return None
    label = lambda row: f"{products.titles[row] or '(no title)'}\n{products.category_paths[row]}"
    points = [
        (f"{x:.4f}", f"{y:.4f}", int(colour), label(row))
        for (x, y), colour, row in zip(made.points, made.colours, made.rows, strict=True)
    ]
    pictures = [(*points[place], cards.thumbnail(int(made.rows[place]), MAP_PICTURE_PIXELS)) for place in made.pictured]
    return {
        "points": points,
        "pictures": [one for one in pictures if one[-1]],
        "names": made.names,
        "others": bool((made.colours < 0).any()),
    }


def _grid(grid: figures.Grid, cards: Cards) -> dict:
    halves = (("Right", True), ("Wrong, and most sure of it", False))
    return {
        "title": grid.title,
        "question": grid.question,
        "right_means": grid.right_means,
        "halves": [
            (name, side, [_example(one, grid, cards) for one in grid.examples if one.right == side])
            for name, side in halves
        ],
    }


def _example(example: figures.Example, grid: figures.Grid, cards: Cards) -> dict:
    view = grid.document_view
    return {
        "query": cards.card(example.query, grid.query_view) if example.query >= 0 else None,
        "words": example.words,
        "cards": [cards.card(near.row, view, score=near.score, right=near.right) for near in example.neighbours],
        "answer": cards.card(example.answer_row, view) if example.answer_row >= 0 else None,
        "rank": example.answer_rank,
    }
