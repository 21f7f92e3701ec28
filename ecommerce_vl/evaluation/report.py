"""The report: one HTML page with the tables, the training curves and pictures of what was found.

The invariant: the page is one file that fetches nothing and runs nothing (no script, no remote font or picture), all
catalog text in it is escaped, and pictures of adult products are blurred. It holds thumbnails, never the originals,
so it can be mailed: about a megabyte.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ecommerce_vl import pages
from ecommerce_vl.evaluation import curves, examples
from ecommerce_vl.evaluation.products import EmbeddedProducts
from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.evaluation.suite import BASELINES

THUMBNAIL_PIXELS = 96
_TIES = "tie_rate@10"
_TASKS = {
    "image_text": ("Picture ↔ title", "Does a product's picture find its own title, and its title the picture?"),
    "same_product": ("Same product", "Does a listing find the other sellers' listings of the same product?"),
    "same_style": ("Same style", "Does a product find its variants: other colours, sizes, materials?"),
    "category": ("Leaf category", "Can the category be read from the vector, by a linear probe or by its neighbours?"),
}
_NAMES = {
    "image": "picture",
    "text": "title",
    "product": "picture and title",
    "i2t": "picture → title",
    "t2i": "title → picture",
    "knn": "nearest neighbours",
    "linear": "linear probe",
    "tfidf": "TF-IDF of titles",
    "colour_histogram": "colour histogram",
    "random": "random vectors",
    "majority": "most frequent category",
    "mrr": "MRR",
    "map_at_r": "MAP@R",
    "macro_f1": "macro F1",
    "balanced_accuracy": "balanced accuracy",
    "top1": "top 1",
    "top5": "top 5",
}
_GRID_TITLES = {
    "image_text/t2i": ("Words in, pictures out", "A product's title asks; the nearest pictures answer."),
    "image_text/i2t": (
        "Picture in, titles out",
        "A picture asks; the nearest titles answer (their pictures beside them).",
    ),
    "same_product/product": ("Other listings of the same product", "Picture and title together ask."),
    "same_style/product": ("Variants of the same style", "Picture and title together ask."),
    "category/product": ("The nearest products", "Picture and title together ask."),
}
# Field of an entry -> head and format of its column.
_FACTS = {
    "n": ("n", "{:,}"),
    "candidates": ("candidates", "{:,}"),
    "mean_relevant": ("right answers", "{:.1f}"),
    _TIES: ("ties at\u00a010", "{:.0%}"),
    "unseen": ("unseen", "{:,}"),
    "C": ("C", "{:g}"),
    "coverage": ("coverage", "{:.0%}"),
}
# (metric key, sentence): the first line of the page, as far as it was measured.
_HEADLINES = (
    ("image_text/i2t/hit@10", "of the pictures find their title among the first 10 of {candidates:,}"),
    ("image_text/t2i/hit@10", "of the titles find their picture among the first 10 of {candidates:,}"),
    ("same_product/product/hit@1", "of the listings have another listing of the same product as their nearest"),
    ("category/image/linear/top1", "of the leaf categories (of {candidates:,}) are read from the picture alone"),
    ("category/product/linear/top1", "of the leaf categories (of {candidates:,}) are read from picture and title"),
)


@dataclass(frozen=True)
class Row:
    """One line of a table: the entries of one method by metric name, and `facts`, the text of its plain columns."""

    label: str
    is_model: bool
    entries: dict[str, dict]
    facts: list[str]


@dataclass(frozen=True)
class Table:
    """One task as printed; `facts` are the heads of the plain columns after the metrics."""

    title: str
    question: str
    metrics: list[str]
    facts: list[str]
    rows: list[Row]


def write_report(path: str | Path, results: Results, *, history: Sequence[dict], info: dict[str, object]) -> None:
    """Writes the page to `path`.

    `history`: rows of the training log, {"step": int, "loss": float, …}, any may lack a key; `info`: facts for the
    header (checkpoint, data, versions), label -> value, printed in order. Errors: OSError when it cannot be written.
    """
    environment = pages.environment(Path(__file__).parent)
    environment.filters["number"] = _number
    environment.filters["interval"] = _interval
    environment.filters["named"] = _named
    page = environment.get_template("report.html").render(
        info=info,
        headlines=[
            (results.metrics[key], sentence.format(**results.metrics[key]))
            for key, sentence in _HEADLINES
            if key in results.metrics
        ],
        tables=tables(results.metrics),
        curves=curves.draw(history),
        grids=[_grid(results.grids[key], results.products) for key in examples.SHOWN if key in results.grids],
        skipped=_by_reason(results.skipped),
        count=len(results.products),
    )
    Path(path).write_text(page, encoding="utf-8")


def tables(metrics: dict[str, dict]) -> list[Table]:
    """The metrics as one table per task, rows in the order of measurement, baselines marked."""
    found = []
    for task, (title, question) in _TASKS.items():
        methods = {}
        for key, entry in metrics.items():
            head, *parts, metric = key.split("/")
            if head == task:
                methods.setdefault(tuple(parts), {})[metric] = entry
        if methods:
            known = [_facts(entries) for entries in methods.values()]
            shown = [name for name in _FACTS if any(name in facts for facts in known)]
            names = dict.fromkeys(name for entries in methods.values() for name in entries if name != _TIES)
            rows = [_row(parts, entries, shown=shown) for parts, entries in methods.items()]
            heads = [_FACTS[name][0] for name in shown]
            if task == "category":
                heads[shown.index("candidates")] = "classes"
            found.append(Table(title=title, question=question, metrics=list(names), facts=heads, rows=rows))
    return found


def _facts(entries: dict[str, dict]) -> dict[str, float]:
    """What is the same for all metrics of a method, and its tie rate."""
    ties = {_TIES: entries[_TIES]["value"]} if _TIES in entries else {}
    return next(iter(entries.values())) | ties


def _row(parts: tuple[str, ...], entries: dict[str, dict], *, shown: list[str]) -> Row:
    """A baseline is named without the setting, which the model's row above it already names."""
    is_model = not set(parts) & set(BASELINES)
    named = parts if is_model else parts[-1:] if parts[-1] in BASELINES else parts[-2:]
    facts = _facts(entries)
    return Row(
        label=" · ".join(map(_named, named)),
        is_model=is_model,
        entries=entries,
        facts=[_FACTS[name][1].format(facts[name]) if name in facts else "" for name in shown],
    )


def thumbnail(encoded: bytes | None) -> str:
    """A JPEG data URI of at most 96 x 96 pixels; "" for a missing or unreadable picture."""
    try:
        with Image.open(io.BytesIO(encoded or b"")) as image:
            image.draft("RGB", (2 * THUMBNAIL_PIXELS, 2 * THUMBNAIL_PIXELS))
            picture = image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError):
        return ""
    picture.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    picture.save(small, format="JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode()


def _grid(grid: examples.Grid, products: EmbeddedProducts) -> dict:
    title, question = _GRID_TITLES[grid.setting.key]
    halves = (("Right", True), ("Wrong, and most sure of it", False))
    return {
        "title": title,
        "question": question,
        "right_means": grid.right_means,
        "query_view": grid.setting.query_view,
        "document_view": grid.setting.document_view,
        "halves": [
            (name, side, [_example(one, grid, products) for one in grid.examples if one.right == side])
            for name, side in halves
        ],
    }


def _example(example: examples.Example, grid: examples.Grid, products: EmbeddedProducts) -> dict:
    cards = [
        _card(products, near.row, grid.setting.document_view) | {"score": near.score, "right": near.right}
        for near in example.neighbours
    ]
    answer = _card(products, example.answer_row, grid.setting.document_view) if example.answer_row >= 0 else None
    query = _card(products, example.query, grid.setting.query_view)
    return {"query": query, "cards": cards, "answer": answer, "rank": example.answer_rank}


def _card(products: EmbeddedProducts, row: int, view: str) -> dict:
    """What a product shows: a title that was searched is prominent, a picture that was not is small beside it."""
    return {
        "id": products.ids[row],
        "title": products.titles[row] or "(no title)",
        "leaf": products.category_paths[row].rsplit(" > ", 1)[-1],
        "adult": products.adult[row] == "yes",
        "picture": thumbnail(products.images[row]),
        "view": view,
    }


def _by_reason(skipped: dict[str, str]) -> dict[str, list[str]]:
    grouped = {}
    for name, reason in skipped.items():
        grouped.setdefault(reason, []).append(name)
    return grouped


def _named(part: str) -> str:
    return _NAMES.get(part, part)


def _number(value: float, digits: int = 3) -> str:
    """0.8123 -> ".812", 1.0 -> "1.000": shares in a table read faster without the zero."""
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("0.") else text


def _interval(entry: dict) -> str:
    return f"[{_number(entry['low'], 2)}, {_number(entry['high'], 2)}]"
