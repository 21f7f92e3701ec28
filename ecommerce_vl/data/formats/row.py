"""What a reader of a format gives for a row that cannot be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that cannot be read; `detail` shows what was found."""

    reason: str
    detail: str


Row = Mapping[str, Any] | BadRow
