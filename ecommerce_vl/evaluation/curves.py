"""Line drawings of the report, as SVG pictures: training, precision and recall, values over a setting.

The invariant: drawing reads plain data and returns text; no global figure, no display, and the same data give the same
bytes. A panel appears when there are at least two points for it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from ecommerce_vl.evaluation import figures, tables

_MOST_POINTS = 400
_PANELS_A_ROW = 3
_EVALUATED = ("hit@", "top1", "ndcg@", "f1", "auc")
# (title of the panel, what a column's name begins with, what its last part must contain, log scale)
_PANELS = (
    ("loss", "", ("loss",)),
    ("accuracy in the batch", "", ("acc", "top1", "hit")),
    ("quick evaluation, validation sample", "eval/", _EVALUATED),
    ("whole evaluation, by checkpoint", "test/", _EVALUATED),
    ("learning rate", "", ("learning_rate", "lr")),
)
_PREFIXES = ("eval/", "test/")
_COLOURS = ("#2f5fd0", "#d9822b", "#2a9d6f", "#9b51b6", "#7a8794", "#c2455e", "#7b6a1e", "#3aa6b9")
_GREY = "#aab3bd"
_STYLE = {
    "svg.hashsalt": "curves",  # the ids of clip paths are random otherwise
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3ad",
    "axes.prop_cycle": matplotlib.cycler(color=list(_COLOURS)),
}


def training(history: Sequence[Mapping]) -> str:
    """An SVG data URI of loss, accuracy, evaluations and learning rate over steps; "" when there is nothing to draw.

    `history`: rows {"step": int, name: number, …}; a row may lack any name, and names may have a prefix ("eval/").
    """
    panels = [(title, _series(history, prefix=prefix, marks=marks)) for title, prefix, marks in _PANELS]
    return _drawn([(title, series, _plot_steps) for title, series in panels if series])


def precision_recall(found: Mapping[str, figures.PrecisionRecall]) -> str:
    """Precision over recall of each setting, and the chosen threshold as a point."""
    both = {name: one for name, one in found.items() if one.right.any() and not one.right.all()}
    return _drawn([(_title(name), one, _plot_precision_recall) for name, one in both.items()])


def values(found: Mapping[str, figures.Curve]) -> str:
    """Each measured curve with its intervals."""
    return _drawn([(_title(name), one, _plot_values) for name, one in found.items() if one.series])


def _drawn(panels: Sequence[tuple]) -> str:
    """Panels (title, data, plot) in rows of three, as a data URI; "" for none."""
    if not panels:
        return ""
    width = min(len(panels), _PANELS_A_ROW)
    height = -(-len(panels) // width)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.0 * width, 2.9 * height), layout="constrained")
        places = figure.subplots(height, width, squeeze=False).ravel()
        for axes, (title, data, plot) in zip(places, panels, strict=False):
            plot(axes, data)
            axes.set_title(title, loc="left", fontweight="bold", fontsize=9)
            axes.grid(alpha=0.2)
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.getvalue()).decode()


def _plot_steps(axes, series: Mapping[str, list]) -> None:
    for name, points in series.items():
        chosen = points[:: -(-len(points) // _MOST_POINTS)]
        axes.plot(*zip(*chosen, strict=True), label=name, linewidth=1.6, marker="o" if len(chosen) < 30 else None, ms=2)
    axes.set_xlabel("step")
    _legend(axes, len(series))


def _plot_precision_recall(axes, one: figures.PrecisionRecall) -> None:
    precision, recall, _ = precision_recall_curve(one.right, one.scores)
    keep = np.unique(np.linspace(0, len(recall) - 1, _MOST_POINTS).astype(int))
    axes.plot(recall[keep], precision[keep], label="model", linewidth=1.8)
    if one.threshold is not None:
        yes = one.scores >= one.threshold
        hits = (yes & one.right).sum()
        p, r = hits / max(yes.sum(), 1), hits / one.right.sum()
        axes.plot([r], [p], "o", color=_COLOURS[1], ms=6, label=f"threshold {one.threshold:.3f}: P {p:.2f}, R {r:.2f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(fontsize=7, loc="best", framealpha=0.85, edgecolor="none")


def _plot_values(axes, one: figures.Curve) -> None:
    for name, points in one.series.items():
        x, value, low, high = np.array(points, float).T
        (line,) = axes.plot(x, value, label=tables.named(name) if name else "model", linewidth=1.6, marker="o", ms=3)
        axes.fill_between(x, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
    axes.set(xlabel=one.x_label, ylabel=one.y_label)
    if one.log_x:
        axes.set_xscale("log", base=2 if max(x) <= 64 else 10)
        if len(x) <= 8:
            axes.set_xticks(x, [f"{at:g}" for at in x], minor=False)
            axes.minorticks_off()
    _legend(axes, len(one.series))


def _legend(axes, count: int) -> None:
    if count > 1:
        axes.legend(frameon=False, fontsize=7)


def _title(key: str) -> str:
    task, *parts = key.split("/")
    return "\n".join([tables.describe(task)[0], " · ".join(map(tables.named, parts))])


def _series(history: Sequence[Mapping], *, prefix: str, marks: tuple[str, ...]) -> dict[str, list[tuple[int, float]]]:
    series: dict[str, list] = {}
    for row in history:
        for name, value in row.items():
            mine = name.startswith(prefix) if prefix else not name.startswith(_PREFIXES)
            leaf = name.rsplit("/", 1)[-1]
            if mine and "step" in row and isinstance(value, int | float) and any(mark in leaf for mark in marks):
                series.setdefault(name.removeprefix(prefix), []).append((row["step"], value))
    return {name: points for name, points in series.items() if len(points) > 1}
