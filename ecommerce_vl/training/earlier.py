"""Configs of earlier versions under the names of today, so that their runs are read, and go on.

A key that was renamed moves; one that is new has the value that does what was done before there was one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

RENAMED = {  # 2026-11-30
    "loss_weights": "weights",  # ITEm
    "loss.w_pdc": "weights.pdc",  # same style
    "loss.w_loc": "weights.locality",
    "pool": "joint.pool",  # query retrieval
    "mpm.pool": "mpm.candidates",
}
NEW = {"data.any_image": True, "data.drop_lowest": 0.0, "data.min_agreement": -1.0}  # 2026-11-30
NEW_OF_PRODUCTS = {"data.fraction": 1.0, "data.same_category_fraction": 0.0}
MARK = "lr_decay"  # of the optimizer, new on 2026-12-01, when the loss of query retrieval became the sum of both ways


def of_today(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the keys of today; one of today as it is."""
    config = json.loads(json.dumps(config))
    for old, new in RENAMED.items():
        parent, name = _parent(config, old)
        if parent is not None and name in parent:
            place, last = _parent(config, new, make=True)
            place[last] = parent.pop(name)
    if "data" in config:
        new = NEW | (NEW_OF_PRODUCTS if config["data"].get("source") == "products" else {})
        for key, value in new.items():
            config["data"].setdefault(key.removeprefix("data."), value)
    if MARK not in config.get("optimizer", {MARK: ""}):
        config["optimizer"] |= {MARK: "cosine", "locked_fraction": 1.0}
        if config["system"] == "eclip":
            config["loss"] |= {"span": 0, "objective": "softmax"}
        if config["system"] == "query_retrieval" and config["loss"]["both"]:
            config["weights"]["qpc"] *= 0.5  # it was their mean
        if config["system"] == "query_retrieval" and config["mpm"]["form"] == "none":
            config["weights"]["mpm"], config["mpm"]["form"] = 0.0, "contrastive"
    return config


def _parent(config: dict[str, Any], path: str, *, make: bool = False) -> tuple[dict[str, Any] | None, str]:
    """The mapping that holds the last name of a path, None where there is none, and that name."""
    *parts, name = path.split(".")
    for part in parts:
        if part not in config and not make:
            return None, name
        config = config.setdefault(part, {})
    return config, name
