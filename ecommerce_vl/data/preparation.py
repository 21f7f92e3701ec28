"""From a feed to shards: ingest, curate, assemble.

Invariants: rows in = rows out + rejects, or it fails; a damaged picture costs the picture, not the product; a killed
job goes on with what is missing and ends with the same bytes; a folder is prepared if and only if it has a summary.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ecommerce_vl.data import feed as feeds
from ecommerce_vl.data import shards
from ecommerce_vl.data.assembly import RUNNERS, assemble, shards_of
from ecommerce_vl.data.curation import CurationSettings, curate
from ecommerce_vl.data.ingest import IngestSettings, ingest
from ecommerce_vl.data.logs import tables as log_tables
from ecommerce_vl.data.logs.settings import from_config
from ecommerce_vl.data.memory import is_memory
from ecommerce_vl.data.prepared import SUMMARY, read_summary
from ecommerce_vl.data.record import ALIASES
from ecommerce_vl.data.seed_model import findings
from ecommerce_vl.data.seed_model.settings import Settings as SeedModelSettings
from ecommerce_vl.data.workers import worker_count
from ecommerce_vl.errors import UserError
from ecommerce_vl.files import write_json

FORMAT_VERSION = 5  # raise when the same feed and settings give other shards, so that old ones are not taken for new
WORK = ".prepare"  # folder of a job under way, beside what it will become
TABLES = ("index", "rejects", "repairs", "relations", "leaks", "conflicts", "placeholders")
# What is made from a finished preparation, and worth nothing beside another one.
OF_THE_SUMMARY = ("report.html", log_tables.SUMMARY, *log_tables.SCHEMAS, "pairs.html")
OF_THE_SUMMARY += (findings.SUMMARY, *findings.TABLES, "seed_model.html")
INERT = ("num_workers", "memory_limit", "runner", "logs", "seed_model")  # settings that change no byte of the shards

ProgressOf = Callable[[str], Callable[[int, int | None], None]]


def prepare_feed(feed: str, out: Path, *, config: Mapping[str, Any], progress: ProgressOf) -> dict:
    """Writes the shards, tables and summary of a feed into `out`; returns the summary.

    Args:
      feed: as `--feed`, see `feeds.feed_sources`.
      out: a folder; files of an earlier preparation in it are replaced.
      config: see `configs/prepare.py`.
      progress: makes the progress callback of a named stage.

    Errors: UserError for a missing or empty feed, a wrong column mapping and settings out of range.
    """
    validate(config)
    if set(str(out)) & set("*?[]'"):
        raise UserError(
            f"--out={out} has a character that stands for others in patterns; name a folder without * ? [ ] '"
        )
    sources = feeds.feed_sources(feed)
    columns = parse_columns(config["columns"], sources)
    request = request_digest(sources, config)
    work, is_new = out / WORK, not out.exists()
    _keep_only(work, request)
    num_workers = worker_count(config["num_workers"])
    num_rows = ingest(
        sources,
        work / "parts",
        settings=IngestSettings.of(config, columns),
        num_workers=num_workers,
        progress=progress("read"),
    )
    counters = {"rows_out": 0, "rejects": {}}
    if num_rows:
        counters = curate(work / "parts", work / "curated", CurationSettings.of(config))
    if not counters["rows_out"]:
        shutil.rmtree(work)
        if is_new:
            out.rmdir()
        raise _no_product(sources, counters["rejects"])
    rejected = sum(counters["rejects"].values())
    if num_rows != counters["rows_out"] + rejected:
        raise RuntimeError(f"rows do not add up: {num_rows} in, {counters['rows_out']} out, {rejected} rejected")
    expected = shards_of(counters["splits"], config["rows_per_shard"])
    assemble(
        work / "parts",
        work / "curated",
        work / "shards",
        expected=expected,
        runner=config["runner"],
        num_workers=num_workers,
        progress=progress("write"),
    )
    in_split = lambda name: [shard.rows for shard in expected if shard.split == name]
    shards.write_metadata(
        work / "shards",
        [
            shards.split_info(work / "shards", split=name, shard_rows=in_split(name))
            for name, rows in counters["splits"].items()
            if rows
        ],
    )
    summary = {
        "rows_in": num_rows,
        **counters,
        "columns": {line["column"]: line["becomes"] for line in feeds.explain(sources, columns)},
        "request": request,
        "fingerprint": shards.fingerprint(work / "shards"),
    }
    _publish(work, out, summary)
    return summary


def is_prepared(out: Path, sources: list[feeds.FeedSource], config: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether a folder holds this feed with these settings, so that there is nothing to do; never with `overwrite`.

    Errors: UserError if it holds another preparation without `overwrite`, as `read_summary`, and as `parse_columns`.
    """
    parse_columns(config["columns"], sources)
    existing = read_summary(out)
    if overwrite or not existing:
        return False
    if existing["request"] != request_digest(sources, config):
        raise holds_another(out)
    return True


def holds_another(out: Path) -> UserError:
    """The error where a folder may not be replaced."""
    return UserError(f"--out={out} holds another feed or other settings; name another folder or add --overwrite")


def validate(config: Mapping[str, Any]) -> None:
    """Checks the settings before any work.

    Errors: UserError naming every setting that is out of range.
    """
    images, identity, fractions = config["images"], config["identity"], config["split"]["fractions"]
    shares = isinstance(fractions, (list, tuple)) and all(isinstance(share, (int, float)) for share in fractions)
    checks = [
        ("rows_per_shard", config["rows_per_shard"], "at least 1", config["rows_per_shard"] >= 1),
        ("num_workers", config["num_workers"], "at least 0", config["num_workers"] >= 0),
        ("memory_limit", config["memory_limit"], "a size such as 2GB", is_memory(config["memory_limit"])),
        (
            "adult_sellers",
            config["adult_sellers"],
            'seller ids, such as ("shop one",)',
            not isinstance(config["adult_sellers"], str),
        ),
        ("runner", config["runner"], f"one of {', '.join(RUNNERS)}", config["runner"] in RUNNERS),
        ("images.max_pixels", images["max_pixels"], "at least 1", images["max_pixels"] >= 1),
        ("images.min_side", images["min_side"], "at least 1", images["min_side"] >= 1),
        ("images.max_side", images["max_side"], "from 16 to 65500, JPEG's limit", 16 <= images["max_side"] <= 65_500),
        ("images.quality", images["quality"], "from 1 to 95", 1 <= images["quality"] <= 95),
        ("images.placeholder_share", images["placeholder_share"], "from 0 to 1", 0 <= images["placeholder_share"] <= 1),
        (
            "identity.min_title_jaccard",
            identity["min_title_jaccard"],
            "from 0.7, below which the bands miss pairs, to 1",
            0.7 <= identity["min_title_jaccard"] <= 1,
        ),
        (
            "split.fractions",
            fractions,
            "three shares of train, validation and test that add up to 1, such as (0.8, 0.1, 0.1)",
            shares and len(fractions) == 3 and min(fractions) >= 0 and abs(sum(fractions) - 1) < 1e-6,
        ),
        ("split.by", config["split"]["by"], "hash or time", config["split"]["by"] in ("hash", "time")),
    ]
    wrong = [f"--config.{name} is {value!r}, expected {expected}" for name, value, expected, good in checks if not good]
    if wrong:
        raise UserError("; ".join(wrong))
    from_config(config["logs"])
    SeedModelSettings(**config["seed_model"])


def parse_columns(text: str, sources: list[feeds.FeedSource]) -> dict[str, str]:
    """The user's mapping "title=Product name,image_link=photo" as canonical name -> column.

    Errors: UserError if a canonical name is unknown or a column is in no file.
    """
    columns: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, column = (part.strip() for part in pair.partition("="))
        if name not in ALIASES or not column:
            raise UserError(
                f"--config.columns has {pair!r}; expected FIELD=COLUMN where FIELD is one of {', '.join(ALIASES)}"
            )
        columns[name] = column
    if columns:
        found = sorted({column for source in sources for column, _ in feeds.columns_of(source)})
        missing = [column for column in columns.values() if column not in found]
        if missing:
            raise UserError(
                f"--config.columns names the column {missing[0]!r}, which is not in the feed; "
                f"found {', '.join(found)}. Name one of these."
            )
    return columns


def request_digest(sources: list[feeds.FeedSource], config: Mapping[str, Any]) -> str:
    """Digest of the feed files and the settings: the same one means there is nothing to prepare again.

    Pictures beside the feed are not part of it, since finding them would cost a parse of the feed.
    """
    settings = {name: value for name, value in config.items() if name not in INERT}
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, settings], sort_keys=True).encode())
    for source in sources:
        digest.update(f"{Path(source.path).name} {feeds.source_digest(source)}\n".encode())
    return digest.hexdigest()


def _keep_only(work: Path, request: str) -> None:
    """Makes the working folder of a request; what another request left there is of no use."""
    mark = work / "request"
    if work.exists() and not (mark.exists() and mark.read_text() == request):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(request)


def _publish(work: Path, out: Path, summary: dict) -> None:
    """Moves a finished job to its place. The summary is the mark of completeness: the old one goes first, the new one
    comes last, so that a job killed in between is seen as unfinished."""
    for name in (SUMMARY, *OF_THE_SUMMARY):
        (out / name).unlink(missing_ok=True)
    for old in out.glob(f"{shards.DATASET}-*.array_record-*"):
        old.unlink()
    for file in [*sorted((work / "shards").iterdir()), *(work / "curated" / f"{name}.parquet" for name in TABLES)]:
        os.replace(file, out / file.name)
    write_json(out / SUMMARY, summary)
    shutil.rmtree(work)


def _no_product(sources: list[feeds.FeedSource], rejects: Mapping[str, int]) -> UserError:
    reasons = ", ".join(f"{n} {reason}" for reason, n in rejects.items())
    fix = "run with --explain to see what each column becomes" if reasons else "is it the right file?"
    return UserError(
        f"--feed has no usable product in {', '.join(source.name for source in sources)}: found "
        f"{reasons or 'no rows at all'}; expected rows with an id and a title or a picture; {fix}"
    )
