"""Errors that a user can act on: what was checked, the value found, the value expected, how to fix it.

A value of the config that cannot be is a ValueError that begins with its key; where a run is put together,
`training/workdir.py` turns it into a UserError with the whole key.
"""

from collections.abc import Iterable, Mapping


class UserError(Exception):
    """Raised where the job cannot go on and the user can do something about it; a door prints it as one sentence."""


def one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """Errors: ValueError that begins with the key, unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{key} is {value!r}; expected one of {', '.join(choices)}")


def none_below_zero(key: str, values: Mapping[str, float]) -> None:
    """Errors: ValueError that begins with the key of the first of `values` that is negative."""
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{key}.{name} is {value}; expected at least 0")
