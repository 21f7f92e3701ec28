"""The measured numbers as tables: one a task, generic over keys, so that a new family needs no line here.

The invariant: a table is read off the keys alone. A key is task/setting/[baseline/][probe/]metric, with "/slice=…"
after it where it is of a part of the queries; a baseline stands in the row of the model whose key is the same without
it, or begins so (the most frequent category has no probe, and stands beside all of them). Every measured number is in
the whole table of its task; the short one above shows the metrics of `TASKS` and, of the first of them, the baselines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ecommerce_vl.evaluation.context import BASELINES, is_baseline
from ecommerce_vl.evaluation.products import VIEWS

SLICE = "/slice="
SHORT_METRICS = 4  # columns of a short table
SHORT_ROWS = 14
MEANS = ("mean", "weighted_mean")  # settings that stand for the others of their task
# task -> (title, question, metrics of the short table, the first of which the baselines are shown in).
TASKS = {
    "image_text": (
        "Picture ↔ title",
        "Does a product's picture find its own title, and its title the picture?",
        ("hit@10", "hit@1", "hit@5", "mrr"),
    ),
    "same_product": (
        "Same product",
        "Does a listing find the other sellers' listings of the same product?",
        ("hit@1", "hit@10", "recall@10", "mrr"),
    ),
    "same_style": (
        "Same style",
        "Does a product find its variants: other colours, sizes, materials?",
        ("hit@1", "hit@10", "recall@10", "map_at_r"),
    ),
    "cross_modal": (
        "Any modality to any other",
        "Picture, title or both ask; pictures, titles or both answer; the pools are the same.",
        ("hit@10", "hit@1", "mrr", "recall@10"),
    ),
    "dominance": (
        "Which modality decides",
        "How far does same-product retrieval fall when a query takes its picture, or its title, from another product?",
        ("dominance", "drop_img", "drop_txt", "hit@1"),
    ),
    "centred": (
        "Same product, without the training mean",
        "What do the vectors tell apart once the direction that they share is taken off?",
        ("hit@1", "hit@10", "hit@5", "mrr"),
    ),
    "clicked_pairs": (
        "Clicked together",
        "Does a product find what shoppers clicked with it? What they did not click counts as wrong.",
        ("hit@10", "hit@1", "hit@5", "mrr"),
    ),
    "query": (
        "Search queries",
        "Do a shopper's words find the products that people judged to be right, or clicked?",
        ("ndcg@10", "recall@10", "mrr@10", "judged@10"),
    ),
    "composed": (
        "Picture and words",
        "A picture and a change in words ask: is the answer changed so, and still that kind of product?",
        ("success@10", "identity", "collapse"),
    ),
    "category": (
        "Leaf category",
        "Can the category be read from the vector: by a probe, by its neighbours, or from its name alone?",
        ("top1", "macro_f1", "top5", "hier_f1"),
    ),
    "attributes": (
        "Attributes",
        "Can a product's attributes be read from its vector? What a feed does not say is unknown, not wrong.",
        ("micro_f1", "macro_f1", "map", "coverage_at_precision"),
    ),
    "matching": (
        "Product matching",
        "Are two listings the same product? The threshold was chosen on the validation split.",
        ("f1", "pr_auc", "recall_at_precision_0.95", "roc_auc"),
    ),
    "clustering": (
        "Product clustering",
        "Do the listings of a product fall into one cluster, and others not? Single listings count.",
        ("bcubed_f1", "pair_f1", "ari", "ami"),
    ),
    "adult": (
        "Adult products",
        "Are products that need an age check recognised? What a feed does not say is left out.",
        ("pr_auc", "f1", "roc_auc", "recall_at_precision_0.9"),
    ),
}
_NAMES = {
    "image": "picture",
    "text": "title",
    "product": "picture and title",
    "i2t": "picture → title",
    "t2i": "title → picture",
    "knn": "nearest neighbours",
    "linear": "linear probe",
    "zero_shot": "by name",
    "fine_tune": "fine-tuned",
    "mlp": "MLP",
    "tfidf": "TF-IDF of titles",
    "bm25": "BM25 of titles",
    "colour_histogram": "colour histogram",
    "colour_edges": "colours and edges",
    "untrained": "untrained encoder",
    "random": "random vectors",
    "majority": "most frequent",
    "mrr": "MRR",
    "map": "mAP",
    "map_at_r": "MAP@R",
    "pr_auc": "PR AUC",
    "roc_auc": "ROC AUC",
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "hier_f1": "hierarchical F1",
    "pair_f1": "pair F1",
    "bcubed_f1": "B³ F1",
    "ari": "ARI",
    "ami": "AMI",
    "nmi": "NMI",
    "balanced_accuracy": "balanced accuracy",
    "top1": "top 1",
    "top5": "top 5",
}
# Field of an entry -> head and format of its column; others follow under their own names.
_FACTS = {
    "n": ("n", "{:,}"),
    "candidates": ("candidates", "{:,}"),
    "mean_relevant": ("right answers", "{:.1f}"),
    "unseen": ("unseen", "{:,}"),
    "C": ("C", "{:g}"),
    "coverage": ("coverage", "{:.0%}"),
    "distractors": ("of other splits", "{:.0%}"),
    "prevalence": ("prevalence", "{:.1%}"),
    "threshold": ("threshold", "{:.3f}"),
}
_VALUE = ("value", "low", "high")
GALLERY = "gallery="  # of a part of a key: how many products may answer


@dataclass(frozen=True)
class Row:
    """One line: the entries of one method by metric name, those of its baselines, and `facts` as text."""

    label: str
    is_model: bool
    entries: Mapping[str, dict]
    baselines: Mapping[str, dict]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """One task: a short table of the model's rows, and all rows with all metrics."""

    task: str
    title: str
    question: str
    short_metrics: tuple[str, ...]
    baselines: tuple[str, ...]
    short: tuple[Row, ...]
    metrics: tuple[str, ...]
    facts: tuple[str, ...]
    rows: tuple[Row, ...]


def tables(metrics: Mapping[str, dict]) -> list[Table]:
    """One table a task: those of `TASKS` in that order, then the others as they were measured."""
    by_task: dict[str, dict[tuple[str, ...], dict[str, dict]]] = {}
    for key, entry in metrics.items():
        if SLICE not in key:
            task, *parts, metric = key.split("/")
            by_task.setdefault(task, {}).setdefault(tuple(parts), {})[metric] = entry
    order = [*(task for task in TASKS if task in by_task), *(task for task in by_task if task not in TASKS)]
    return [_table(task, by_task[task]) for task in order]


def describe(task: str) -> tuple[str, str, tuple[str, ...]]:
    """Title, question and short metrics of a task; those of an unknown one follow from its name."""
    return TASKS.get(task, (task.replace("_", " ").capitalize(), "", ()))


def named(part: str) -> str:
    """A part of a key as people read it."""
    if part in _NAMES:
        return _NAMES[part]
    if part.startswith(GALLERY):
        return f"among {int(part.removeprefix(GALLERY)):,} products"
    if "2" in part and {*part.split("2")} <= {"image", "text", "product", "i", "t", "m"}:
        full = {"i": "image", "t": "text", "m": "product"}
        return " → ".join(_NAMES[full.get(end, end)] for end in part.split("2"))
    return part.replace("_", " ")


def without_baseline(parts: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The parts of the row that a baseline stands beside, and its name; "" for the model itself."""
    name = next(filter(is_baseline, parts), "")
    return tuple(part for part in parts if part != name), name


def _table(task: str, methods: dict[tuple[str, ...], dict[str, dict]]) -> Table:
    title, question, preferred = describe(task)
    found = tuple(dict.fromkeys(name for entries in methods.values() for name in entries))
    short = tuple(name for name in preferred if name in found)
    if not short:
        short = tuple(name for name in found if not name.startswith("tie_rate"))[:SHORT_METRICS]
    facts = {parts: _facts(entries) for parts, entries in methods.items()}
    heads = tuple(dict.fromkeys([*(_FACTS[n][0] for n in _FACTS), *(head for row in facts.values() for head in row)]))
    heads = tuple(head for head in heads if any(head in row for row in facts.values()))
    beside: dict[tuple[str, ...], dict[str, dict]] = {}
    for parts, entries in methods.items():
        base, name = without_baseline(parts)
        if not name or short[0] not in entries:
            continue
        for model, own in methods.items():
            if not without_baseline(model)[1] and model[: len(base)] == base and short[0] in own:
                beside.setdefault(model, {})[name] = entries[short[0]]
    rows = tuple(
        Row(_label(parts), not without_baseline(parts)[1], entries, beside.get(parts, {}), facts[parts])
        for parts, entries in methods.items()
    )
    shown = _short_rows([parts for parts, entries in methods.items() if set(entries) & set(short)])
    shown = tuple(row for row, parts in zip(rows, methods, strict=True) if parts in shown)
    return Table(
        task=task,
        title=title,
        question=question,
        short_metrics=short,
        baselines=tuple(sorted({name for row in shown for name in row.baselines}, key=_place)),
        short=shown,
        metrics=found,
        facts=heads,
        rows=rows,
    )


def _place(baseline: str) -> tuple[int, str]:
    """Those of `BASELINES` in their order, then published models by name."""
    return BASELINES.index(baseline) if baseline in BASELINES else len(BASELINES), baseline


def _short_rows(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The model's rows, at most 14: means first where there are more, then what knows picture and title."""
    mine = [parts for parts in rows if not without_baseline(parts)[1]]
    return sorted(mine, key=lambda parts: (parts[:1] not in [(mean,) for mean in MEANS], "product" not in parts))[
        :SHORT_ROWS
    ]


def representative(keys: list[str], *, most: int) -> list[str]:
    """At most so many keys task/setting/…: tasks in turn, settings in turn within each, the product view first."""
    tasks: dict[str, dict[str, list[str]]] = {}
    for key in keys:
        task, *parts = key.split("/")
        setting = next((part for part in parts[:1] if part not in VIEWS), "")
        tasks.setdefault(task, {}).setdefault(setting, []).append(key)
    product_first = lambda mine: sorted(mine, key=lambda key: "product" not in key.split("/"))
    queues = [_in_turn([product_first(mine) for mine in settings.values()]) for settings in tasks.values()]
    return sorted(_in_turn(queues)[:most], key=keys.index)


def _in_turn(queues: list[list[str]]) -> list[str]:
    longest = max(map(len, queues), default=0)
    return [queue[at] for at in range(longest) for queue in queues if at < len(queue)]


def _label(parts: tuple[str, ...]) -> str:
    base, baseline = without_baseline(parts)
    return " · ".join([*map(named, base), *([named(baseline)] if baseline else [])]) or "all"


def _facts(entries: Mapping[str, dict]) -> dict[str, str]:
    """What is the same for all metrics of a method, as head -> text."""
    first = next(iter(entries.values()))
    found = {}
    for name, fact in first.items():
        if name in _VALUE or fact is None:
            continue
        head, form = _FACTS.get(name, (name.replace("_", " "), ""))
        plain = isinstance(fact, int | float) and not isinstance(fact, bool) and math.isfinite(fact)
        found[head] = form.format(fact) if form and plain else text_of(fact)
    return found


def text_of(fact: object) -> str:
    """A fact of any type, short."""
    if isinstance(fact, float):
        return f"{fact:.3g}"
    if isinstance(fact, list | tuple):
        return ", ".join(map(text_of, fact))
    if isinstance(fact, dict):
        return ", ".join(f"{name} {text_of(value)}" for name, value in fact.items())
    return f"{fact:,}" if isinstance(fact, int) and not isinstance(fact, bool) else str(fact)


def number(value: float | None, digits: int = 3) -> str:
    """0.8123 -> ".812", 1.0 -> "1.000": shares in a table read faster without the zero; what is no number is "–"."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def interval(entry: Mapping) -> str:
    """ "[.79, .82]"; "" where a metric has no interval."""
    if any(entry.get(end) is None or not math.isfinite(entry[end]) for end in ("low", "high")):
        return ""
    return f"[{number(entry['low'], 2)}, {number(entry['high'], 2)}]"
