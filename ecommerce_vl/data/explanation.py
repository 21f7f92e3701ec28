"""What each column of a feed becomes, for a person to read before anything is prepared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ecommerce_vl.data import feed as feeds
from ecommerce_vl.data.preparation import parse_columns
from ecommerce_vl.data.sample import write_sample
from ecommerce_vl.data.sample.request import FEED, parse_sample

SAMPLE_LISTINGS = 100  # have every column that a sample can have


def explanation(feed: str, mapping: str) -> Iterator[str]:
    """A line a column, and its first values before and after, indented. Writes nothing that stays.

    Args:
      feed: as `--feed`.
      mapping: as `--config.columns`.

    Errors: UserError for a missing feed and a wrong mapping.
    """
    sample = parse_sample(feed)
    with tempfile.TemporaryDirectory() as folder:
        if sample:
            write_sample(folder, num_listings=min(sample["num_listings"], SAMPLE_LISTINGS), seed=sample["seed"])
            feed = str(Path(folder) / FEED)
        sources = feeds.feed_sources(feed)
        for line in feeds.explain(sources, parse_columns(mapping, sources)):
            yield f"{line['column']:32s} -> {line['becomes']}"
            for value in line["values"]:
                changed = f"  ->  {value['after']}" if value["after"] != value["before"] else ""
                yield f"    {value['before']}{changed}"
