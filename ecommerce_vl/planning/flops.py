"""FLOPs of a traced function: matrix products and convolutions, two each multiply-add, loops times their length.

From the program as traced, not as compiled: the compilers count the body of a loop once, and a model here is a scan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax


def count_flops(jaxpr: Any) -> tuple[int, int]:
    """(all, those inside of a shard_map) of one step over all devices.

    The second is the loss: `losses/` alone maps over devices.
    """
    total = mapped = 0
    for equation in jaxpr.eqns:
        times, inside = 1, 0
        if equation.primitive.name == "dot_general":
            inside = _dot(equation)
        elif equation.primitive.name == "conv_general_dilated":
            inside = _convolution(equation)
        else:
            if equation.primitive.name == "scan":
                times = equation.params["length"]
            elif equation.primitive.name == "shard_map":
                times = equation.params["mesh"].size
            counts = [count_flops(inner) for inner in _inner(equation.params)]
            inside = sum(count[0] for count in counts)
            mapped += times * (inside if equation.primitive.name == "shard_map" else sum(count[1] for count in counts))
        total += times * inside
    return total, mapped


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def _dot(equation) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _convolution(equation) -> int:
    kernel = equation.invars[1].aval.shape
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // features


def flops_of(function, *arguments) -> tuple[int, int]:
    """`count_flops` of a function at abstract arguments."""
    return count_flops(jax.make_jaxpr(function)(*arguments).jaxpr)
