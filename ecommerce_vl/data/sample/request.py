"""The sample catalog as a feed: `sample:LISTINGS[:SEED]`, drawn into a folder once.

Invariant: a folder that holds anything but a sample of ours is never removed or written to.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ecommerce_vl.data.preparation import holds_another
from ecommerce_vl.data.sample import write_sample
from ecommerce_vl.errors import UserError
from ecommerce_vl.files import write_json

PREFIX = "sample:"
REQUEST = "sample.json"  # what was asked for, beside what was drawn
FEED = "products.jsonl"


def parse_sample(feed: str) -> dict[str, int] | None:
    """What `sample:LISTINGS[:SEED]` asks for, as `write_sample` takes it; None for another feed.

    Errors: UserError if it begins so and has another form.
    """
    if not feed.startswith(PREFIX):
        return None
    parts = feed.removeprefix(PREFIX).split(":")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts) or int(parts[0]) < 1:
        raise UserError(f"--feed={feed}: expected sample:LISTINGS or sample:LISTINGS:SEED, such as sample:2000")
    return {"num_listings": int(parts[0]), "seed": int(parts[1]) if len(parts) > 1 else 0}


def draw_sample(
    request: dict[str, int],
    out: Path,
    *,
    replace: bool,
    num_workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Draws the sample catalog into DATA/feed, if it does not lie there; returns the feed's path.

    Args:
      request: see `parse_sample`.
      out: DATA.
      replace: whether another sample there may be replaced.
      num_workers: processes that draw; 0 is one a core.

    Errors: UserError if the folder holds another sample that may not be, or anything else.
    """
    folder = out / "feed"
    found = _drawn(folder)
    if found == request:
        return str(folder / FEED)
    if not replace:
        raise holds_another(out)
    if found is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} holds files that are no sample of ours; move them or name another --out")
    # Drawn beside it and renamed, so that what an interrupted drawing leaves is never taken for a user's files.
    partial = out / ".feed.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        counts = write_sample(partial, **request, num_workers=num_workers, progress=progress)
        write_json(partial / REQUEST, {"request": request, **counts})
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return str(folder / FEED)


def _drawn(folder: Path) -> dict[str, int] | None:
    """The request of the sample that was drawn into a folder, None where there is none of ours."""
    try:
        return json.loads((folder / REQUEST).read_text(encoding="utf-8"))["request"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
