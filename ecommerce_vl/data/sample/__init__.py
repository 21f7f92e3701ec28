"""The embedded sample catalog: a synthetic feed with photographs, logs and the truth, made from a seed.

It stands in for a merchant's own data wherever that may not be assumed to exist (first run, tests, continuous
integration), so it uses the same file formats a user would bring. The same (num_listings, seed) gives the same bytes.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path

from ecommerce_vl.data.sample.listings import feed_line, plan_listings, truth_record, write_images
from ecommerce_vl.data.sample.logs import make_logs
from ecommerce_vl.data.workers import worker_count

__all__ = ["write_sample"]


def write_sample(
    directory: str | PathLike,
    *,
    num_listings: int = 2000,
    seed: int = 0,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Write a sample catalog into `directory` (made if missing) and return its counts.

    Writes products.jsonl (`num_listings` rows, defective ones included), images/, queries.jsonl (one query per row on
    average), clicks.jsonl and truth.jsonl (one row per row of products.jsonl, in the same order).

    Args:
        directory: where to write; files of the same names are replaced.
        num_listings: rows of products.jsonl, at least 1.
        seed: any non-negative integer.
        num_workers: processes that draw photographs; 0 is one a core. They change no byte.
        progress: called as progress(done, total) of rows as their photographs are written.

    Returns:
        {"listings", "products", "styles", "categories", "sellers", "images", "queries", "events": int,
        "kinds": {kind: rows}, "actions": {action_name: events}}.

    Raises:
        ValueError: if `num_listings` is less than 1.
    """
    directory = Path(directory)
    listings = plan_listings(num_listings, seed)
    images = write_images(directory, listings, seed, progress, num_workers=worker_count(num_workers))
    (directory / "products.jsonl").write_bytes(b"".join(feed_line(listing, seed) for listing in listings))
    queries, events = make_logs(listings, num_listings, seed)
    _write_rows(directory / "truth.jsonl", map(truth_record, listings))
    _write_rows(directory / "queries.jsonl", queries)
    _write_rows(directory / "clicks.jsonl", events)
    return {
        "listings": len(listings),
        "products": len({listing.product.key for listing in listings}),
        "styles": len({listing.product.style.key for listing in listings}),
        "categories": len({listing.product.style.category.key for listing in listings}),
        "sellers": len({listing.seller.key for listing in listings}),
        "images": images,
        "queries": len(queries),
        "events": len(events),
        "kinds": dict(Counter(listing.kind for listing in listings)),
        "actions": dict(Counter(event["action_name"] for event in events)),
    }


def _write_rows(path: Path, rows: Iterable[dict]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
