"""The values that a config may have, as far as every system has the key; looked at before anything else is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecommerce_vl.errors import UserError
from ecommerce_vl.training.optimizer import RULES
from ecommerce_vl.training.workdir import flat


def validate(config: Mapping[str, Any]) -> None:
    """Checks what would otherwise fail late or silently.

    Errors: UserError, one for the first thing that is wrong.
    """
    found = dict(flat(config))
    heads = {key.removesuffix("heads") + "width": value for key, value in found.items() if key.endswith(".heads")}
    patch, batch_size, trace = found["image.patch_size"], found["batch_size"], tuple(found["profile"])
    rules = (
        ("image.size", found["image.size"] % patch == 0, f"a multiple of {patch}"),
        *((key, found[key] % count == 0, f"a multiple of {count} heads") for key, count in heads.items()),
        ("batch_size", batch_size > 1, "at least 2, since a loss compares samples"),
        ("total_samples", found["total_samples"] >= batch_size, f"at least one batch of {batch_size}"),
        ("streams", found["streams"] > 0, "at least 1, which encodes the whole batch at once"),
        ("log_every", found["log_every"] > 0, "at least 1"),
        (
            "profile",
            not trace or (len(trace) == 2 and 0 < trace[0] <= trace[1]),
            "the first and the last step to trace, such as (100, 104), or ()",
        ),
        ("evaluate.every_steps", found["evaluate.every_steps"] >= 0, "at least 1, or 0 for never"),
        ("evaluate.products", found["evaluate.products"] > 1, "at least 2, since a pool is needed"),
        ("checkpoint.every_steps", found["checkpoint.every_steps"] > 0, "at least 1"),
        ("checkpoint.keep", found["checkpoint.keep"] > 1, "at least 2, since the newest may be damaged"),
        ("mesh.fsdp", found["mesh.fsdp"] > 0, "at least 1"),
        ("mesh.data", found["mesh.data"] == -1 or found["mesh.data"] > 0, "at least 1, or -1 for all that are left"),
        ("data.num_workers", found["data.num_workers"] >= 0, "at least 0"),
        ("data.rows", found.get("data.rows", "all") in ("pairs", "all"), "pairs or all"),  # pairs of products have none
        ("data.path", bool(found["data.path"]), "the folder that prepare wrote"),
        ("optimizer.name", found["optimizer.name"] in RULES, f"one of {', '.join(RULES)}"),
    )
    for key, holds, expected in rules:
        if not holds:
            raise UserError(f"config.{key} is {found[key]!r}; expected {expected}; set --config.{key}=...")
