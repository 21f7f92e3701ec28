"""Published weights into our parameters and back, by tables: our path <- their key, and what becomes of the array.

A row whose key has `{}` is one of a stack: the layers are read in order and stacked first. Invariants: every tensor of
the source is either used or returned by name; whatever is wrong is collected and raised together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ecommerce_vl.errors import UserError

SHOWN_MISTAKES = 12


def same(x: np.ndarray) -> np.ndarray:
    """As it is."""
    return x


def matrix(x_OxI: np.ndarray) -> np.ndarray:
    """A dense kernel: theirs is outputs by inputs, ours inputs by outputs."""
    return x_OxI.T


def patches(x_Wx3xPxP: np.ndarray) -> np.ndarray:
    """The kernel of a strided convolution as a matrix over patches, pixels in row order, channels last."""
    return x_Wx3xPxP.transpose(2, 3, 1, 0).reshape(-1, x_Wx3xPxP.shape[0])


def one_row(x: np.ndarray) -> np.ndarray:
    """(…,W) as (1,W)."""
    return x.reshape(1, -1)


def scalar(x: np.ndarray) -> np.ndarray:
    """An array of one number as that number, shape ()."""
    return x.reshape(())


def third(number: int, read: Callable[[np.ndarray], np.ndarray] = same) -> Callable[[np.ndarray], np.ndarray]:
    """One of query, key and value, which torch's own attention stores on top of one another."""
    return lambda x: read(np.split(x, 3)[number])


def exact(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """As it is: another shape than ours is an error of whoever compares."""
    return x


def first_rows(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """As many rows as we have; fewer than that cannot be made up."""
    return x[: shape[0]]


class Row(NamedTuple):
    """One parameter.

    Args:
      ours: its path.
      theirs: key of a tensor; of several, which are added; or () for a bias that the source does not have, zero.
      read: theirs -> our layout, before layers are stacked.
      fit: (array, our shape) -> array, where sizes may differ.
    """

    ours: str
    theirs: str | tuple[str, ...]
    read: Callable[[np.ndarray], np.ndarray] = same
    fit: Callable[[np.ndarray, tuple[int, ...]], np.ndarray] = exact


def dense(ours: str, theirs: str) -> tuple[Row, Row]:
    """Kernel and bias of a dense layer."""
    return Row(f"{ours}/kernel", f"{theirs}.weight", matrix), Row(f"{ours}/bias", f"{theirs}.bias")


def norm(ours: str, theirs: str) -> tuple[Row, Row]:
    """Scale and bias of a layer norm."""
    return Row(f"{ours}/scale", f"{theirs}.weight"), Row(f"{ours}/bias", f"{theirs}.bias")


def under(ours: str, rows: Sequence[Row], theirs: str = "") -> tuple[Row, ...]:
    """The rows with prefixes before both sides."""
    keys = lambda row: (row.theirs,) if isinstance(row.theirs, str) else row.theirs
    return tuple(row._replace(ours=ours + row.ours, theirs=tuple(theirs + key for key in keys(row))) for row in rows)


def convert(
    rows: Sequence[Row], tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], *, source: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """({our path: float32 array}, names of the tensors that no row uses).

    Args:
      tensors: of the source, by their keys.
      shapes: of our parameters that are to come from it, by path.
      source: what to call it in the error.

    Errors: UserError that names all mistakes: tensors that are missing, shapes that differ, parameters without a row,
      layers that the source has beyond ours.
    """
    found, used, mistakes = {}, set(), []
    for row in under("", rows):
        if row.ours not in shapes:
            mistakes.append(f"{row.ours} is no parameter of this model")
            continue
        shape = shapes[row.ours]
        stacked = any("{}" in key for key in row.theirs)
        layers = [[key.format(layer) for key in row.theirs] for layer in range(shape[0])] if stacked else [row.theirs]
        keys = [key for layer in layers for key in layer]
        if missing := [key for key in keys if key not in tensors]:
            mistakes.append(f"{missing[0]} is missing, of {row.ours}")
            continue
        used.update(keys)
        arrays = [sum(row.read(np.asarray(tensors[key], np.float32)) for key in layer) for layer in layers]
        if not row.theirs:
            array = np.zeros(shape, np.float32)
        elif len({array.shape for array in arrays}) > 1:
            mistakes.append(f"the layers of {row.theirs[0]} differ in shape")
            continue
        else:
            array = row.fit(np.stack(arrays) if stacked else arrays[0], shape)
        if array.shape != shape:
            mistakes.append(f"{' + '.join(row.theirs)} has shape {array.shape}, expected {shape}, of {row.ours}")
            continue
        found[row.ours] = np.array(array, np.float32, order="C")
    ours = {row.ours for row in rows}
    mistakes += [f"{path} of this model is not in the source" for path in shapes if path not in ours]
    unused = sorted(set(tensors) - used)
    patterns = {re.escape(key).replace(r"\{\}", r"\d+") for row in under("", rows) for key in row.theirs if "{}" in key}
    mistakes += [f"{key} is of a layer that this model lacks" for key in unused if any(map(_matches(key), patterns))]
    if mistakes:
        more = f"; and {len(mistakes) - SHOWN_MISTAKES} more" if len(mistakes) > SHOWN_MISTAKES else ""
        raise UserError(f"the weights of {source} do not fit: {'; '.join(mistakes[:SHOWN_MISTAKES])}{more}")
    return found, unused


def restore(
    rows: Sequence[Row], arrays: Mapping[str, np.ndarray], tensors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Our parameters in the layout of the source: its tensors, float32, with what the rows name replaced.

    Args:
      arrays: ours, by path.
      tensors: of the source, which give shapes, and what ours lack: further words, tensors that no row uses.

    Errors: ValueError for a row of several keys, which cannot be told apart again, and for a parameter that is not zero
      and has no place in the source.
    """
    found = {key: np.array(tensor, np.float32) for key, tensor in tensors.items()}
    for row in under("", rows):
        ours = np.asarray(arrays[row.ours], np.float32)
        if not row.theirs:
            if ours.any():
                raise ValueError(f"{row.ours} is not zero, and the source has no place for it")
            continue
        if len(row.theirs) > 1:
            raise ValueError(f"{row.ours} is a sum of {', '.join(row.theirs)}, which does not tell them")
        key = row.theirs[0]
        layers = [(key.format(layer), ours[layer]) for layer in range(len(ours))] if "{}" in key else [(key, ours)]
        for name, array in layers:
            read = row.read(found[name])
            if row.fit is first_rows:
                found[name][: len(array)] = array
            elif row.read is same and array.shape != read.shape:
                found[name] = array  # positions of another grid
            else:
                # Every `read` only moves or takes numbers: what it makes of their places tells where ours belong.
                place = row.read(np.arange(found[name].size).reshape(found[name].shape))
                found[name].flat[place] = array
    return found


def _matches(key: str) -> Callable[[str], bool]:
    return lambda pattern: re.fullmatch(pattern, key) is not None
