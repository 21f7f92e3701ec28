"""Arrays of a compiled program that hold every row of the batch against every other, read from its text.

The loss promises that no device holds one. Counted is what stands in the text, the inside of fused kernels included,
which may never be written to memory: an empty answer is a proof, another asks for a look.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_ARRAY = re.compile(r"\b[a-z]+\d*\[\d+(?:,\d+)+\]")


def batch_blocks(text: str, *, batch: int, sizes: Collection[int]) -> tuple[str, ...] | None:
    """Arrays with two axes of `batch`, such as ("f32[4096,4096]",).

    None where there are some and `batch` is also one of `sizes`, those of the model: a kernel may look the same.
    """
    axes = lambda array: array[array.index("[") + 1 : -1].split(",")
    found = sorted(array for array in set(_ARRAY.findall(text)) if axes(array).count(str(batch)) > 1)
    return None if found and batch in sizes else tuple(found)
