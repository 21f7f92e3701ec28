"""FLOPs of a traced function: matrix products and convolutions, two each multiply-add, loops times their length.

From the program as traced, not as compiled: the compilers count the body of a loop once, and a model here is a scan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

# A matrix unit multiplies bfloat16. Products of float32 are split: one pass by default, three or six for more digits.
PASSES = {jax.lax.Precision.HIGH: 3, jax.lax.Precision.HIGHEST: 6}


class Flops(NamedTuple):
    """Of one step over all devices.

    Args:
      total: of everything.
      loss: inside of a `shard_map`; `losses/` alone maps over devices.
      passes: `total` as a matrix unit of bfloat16 executes it, float32 products counted once for each pass.
    """

    total: int
    loss: int
    passes: int


def count_flops(jaxpr: Any) -> Flops:
    """The FLOPs of a jaxpr."""
    total = loss = passes = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in COUNTED:
            flops = COUNTED[name](equation)
            total, passes = total + flops, passes + flops * _passes(equation)
            continue
        times = 1
        if name == "scan":
            times = equation.params["length"]
        elif name == "shard_map":
            times = equation.params["mesh"].size
        for inner in map(count_flops, _inner(equation.params)):
            total, passes = total + times * inner.total, passes + times * inner.passes
            loss += times * (inner.total if name == "shard_map" else inner.loss)
    return Flops(total, loss, passes)


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def _passes(equation) -> int:
    if any(operand.aval.dtype.itemsize < 4 for operand in equation.invars[:2]):
        return 1
    precision = equation.params["precision"]
    return PASSES.get(precision[0] if isinstance(precision, tuple) else precision, 1)


def _dot(equation) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _convolution(equation) -> int:
    kernel = equation.invars[1].aval.shape
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // features


COUNTED = {"dot_general": _dot, "conv_general_dilated": _convolution}


def flops_of(function, *arguments) -> Flops:
    """`count_flops` of a function at abstract arguments."""
    return count_flops(jax.make_jaxpr(function)(*arguments).jaxpr)
