"""What the families of published models have in common: how their config.json becomes fields of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ecommerce_vl.errors import UserError
from ecommerce_vl.models.pretrained.table import Row

ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}


# A config.json leaves out what its transformers class has as a default; these are those shared by all families.
DEFAULTS = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}


class Family(NamedTuple):
    """What a folder holds.

    Args:
      config: fields of ours that it decides: {"image": …, "text": …, "embed_dim": D}, a key a part that it has.
      rows: tables by part: "image", "text" (without a prefix), "dual" (the rest of a dual encoder), "joint".
      prefix: what may stand before every key of its tensors.
      fold: our parameters -> the same model without what its tensors have no place for, for the way back.
    """

    config: dict[str, Any]
    rows: dict[str, tuple[Row, ...]]
    prefix: str = ""
    fold: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] = dict


def blocks(hf: Mapping[str, Any], **form: Any) -> dict[str, Any]:
    """Fields of a tower that its blocks decide, from a config.json with the defaults of its family.

    Errors: UserError for an activation that we do not have.
    """
    hf = DEFAULTS | dict(hf)
    if hf["hidden_act"] not in ACTIVATIONS:
        raise UserError(f"hidden_act is {hf['hidden_act']!r} in config.json; expected one of {', '.join(ACTIVATIONS)}")
    return {
        "width": hf["hidden_size"],
        "depth": hf["num_hidden_layers"],
        "heads": hf["num_attention_heads"],
        "mlp_ratio": hf["intermediate_size"] / hf["hidden_size"],
        "form": {"activation": ACTIVATIONS[hf["hidden_act"]], "norm_eps": hf["layer_norm_eps"], **form},
    }
