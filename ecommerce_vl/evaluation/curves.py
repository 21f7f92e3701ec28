"""Training curves as one SVG picture.

The invariant: drawing reads rows and returns text; no global figure, no display, and the same rows give the same
bytes. A panel appears when the log has at least two points for it.
"""

import base64
import io
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

_MOST_POINTS = 400
# (title of the panel, what the last part of a column's name must contain)
_PANELS = (
    ("loss", ("loss",)),
    ("accuracy in the batch", ("acc", "top1", "hit")),
    ("learning rate", ("learning_rate", "lr")),
)
_STYLE = {
    "svg.hashsalt": "curves",  # the ids of clip paths are random otherwise
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3ad",
    "axes.prop_cycle": matplotlib.cycler(color=["#2f5fd0", "#d9822b", "#2a9d6f", "#9b51b6", "#7a8794"]),
}


def draw(history: Sequence[dict]) -> str:
    """An SVG data URI of loss, accuracy and learning rate over steps; "" when there is nothing to draw.

    `history`: rows {"step": int, name: number, …}; a row may lack any name, and names may have a prefix ("train/").
    """
    panels = [(title, _series(history, marks=marks)) for title, marks in _PANELS]
    panels = [(title, series) for title, series in panels if series]
    if not panels:
        return ""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.0 * len(panels), 2.6), layout="constrained")
        for axes, (title, series) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for name, points in series.items():
                stride = -(-len(points) // _MOST_POINTS)
                axes.plot(*zip(*points[::stride], strict=True), label=name, linewidth=1.6)
            axes.set_title(title, loc="left", fontweight="bold")
            axes.set_xlabel("step")
            axes.grid(alpha=0.2)
            if len(series) > 1:
                axes.legend(frameon=False, fontsize=8)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.getvalue()).decode()


def _series(history: Sequence[dict], *, marks: tuple[str, ...]) -> dict[str, list[tuple[int, float]]]:
    series = {}
    for row in history:
        for name, value in row.items():
            leaf = name.rsplit("/", 1)[-1]
            if "step" in row and isinstance(value, int | float) and any(mark in leaf for mark in marks):
                series.setdefault(name, []).append((row["step"], value))
    return {name: points for name, points in series.items() if len(points) > 1}
