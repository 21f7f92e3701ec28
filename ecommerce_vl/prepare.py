"""Door: a product feed becomes shards that training, evaluation and export read.

    python -m ecommerce_vl.prepare --feed=FILE_OR_FOLDER --out=DATA [--config=configs/prepare.py]

Reads JSON lines, Parquet, CSV and TSV (also .gz) with Merchant Center names or the usual aliases; `sample:2000[:seed]`
draws the sample catalog into DATA/feed first. Writes TFDS shards, index.parquet, rejects.parquet (rows that are not
in the shards), repairs.parquet (rows that lost a damaged picture) and prepare.json.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ecommerce_vl import doors
from ecommerce_vl.errors import UserError

FEED = flags.DEFINE_string(
    "feed", None, "file, folder, glob, several with commas, or sample:LISTINGS[:SEED]", required=True
)
OUT = flags.DEFINE_string("out", None, "folder for the prepared data", required=True)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace what an earlier feed or config left in --out")
EXPLAIN = flags.DEFINE_bool("explain", False, "print what each column becomes, and stop")
CONFIG = config_flags.DEFINE_config_file("config", None, "settings; configs/prepare.py if not given")


def main() -> None:
    from ecommerce_vl.data import feed as feeds
    from ecommerce_vl.data import preparation
    from ecommerce_vl.progress import Progress

    if not OUT.value:
        raise UserError("--out is empty; expected a folder for the prepared data")
    out = Path(OUT.value)
    config = CONFIG.value.to_dict()
    preparation.validate(config)
    sample = parse_sample(FEED.value) if FEED.value.startswith("sample:") else None
    if EXPLAIN.value:
        explain(sample, config["columns"])
        return
    existing = preparation.read_summary(out)
    feed = FEED.value
    if sample:
        # Before the drawing, which replaces the feed that the prepared data were made of.
        if existing and not OVERWRITE.value and drawn_sample(out / "feed") != sample:
            raise holds_another(out)
        feed = draw_sample(sample, out)
    files = feeds.feed_files(feed)
    preparation.parse_columns(config["columns"], files)
    if existing and not OVERWRITE.value:
        if existing["request"] != preparation.request_digest(files, config):
            raise holds_another(out)
        print(
            f"prepare: {out} already holds this feed with these settings; "
            "nothing to do (add --overwrite if pictures changed)"
        )
        return
    summary = preparation.prepare_feed(feed, out, config=config, progress=lambda label: Progress(label))
    print_summary(summary, out)


def explain(sample: dict[str, int] | None, mapping: str) -> None:
    """Prints what each column becomes; a sample is drawn into a temporary folder, so that nothing is written to DATA.

    Args:
      sample: see `parse_sample`; None for the feed that `--feed` names.
      mapping: as `--config.columns`.
    """
    from ecommerce_vl.data import feed as feeds
    from ecommerce_vl.data import preparation
    from ecommerce_vl.data.sample import write_sample

    with tempfile.TemporaryDirectory() as folder:
        if sample:  # a hundred listings have every column
            write_sample(folder, num_listings=min(sample["num_listings"], 100), seed=sample["seed"])
        files = feeds.feed_files(str(Path(folder) / "products.jsonl") if sample else FEED.value)
        columns = preparation.parse_columns(mapping, files)
        for column, meaning in preparation.explain_columns(files, columns):
            print(f"{column:32s} -> {meaning}")


def holds_another(out: Path) -> UserError:
    return UserError(f"--out={out} holds another feed or other settings; name another folder or add --overwrite")


def parse_sample(name: str) -> dict[str, int]:
    """What `sample:LISTINGS[:SEED]` asks for, as `write_sample` takes it.

    Errors: UserError if it has another form.
    """
    parts = name.split(":")[1:]
    if not 1 <= len(parts) <= 2 or not all(part.isdecimal() for part in parts) or int(parts[0]) < 1:
        raise UserError(f"--feed={name}: expected sample:LISTINGS or sample:LISTINGS:SEED, such as sample:2000")
    return {"num_listings": int(parts[0]), "seed": int(parts[1]) if len(parts) > 1 else 0}


def drawn_sample(folder: Path) -> dict[str, int] | None:
    """The request of the sample that was drawn into a folder, None where there is none of ours."""
    try:
        return json.loads((folder / "sample.json").read_text())["request"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def draw_sample(sample: dict[str, int], out: Path) -> str:
    """Draws the sample catalog into DATA/feed, once; returns the feed's path.

    Errors: UserError if the folder holds anything but an earlier sample, which is never removed.
    """
    from ecommerce_vl.data.sample import write_sample
    from ecommerce_vl.progress import Progress

    folder = out / "feed"
    found = drawn_sample(folder)
    if found != sample:
        if found is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} holds files that are no sample of ours; move them or name another --out")
        # Drawn beside it and renamed, so that what an interrupted drawing leaves is never taken for a user's files.
        partial = out / ".feed.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            counts = write_sample(partial, **sample, progress=Progress("sample"))
            (partial / "sample.json").write_text(json.dumps({"request": sample, **counts}, indent=2) + "\n")
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return str(folder / "products.jsonl")


def print_summary(summary: dict, out: Path) -> None:
    rejected = summary["rows_in"] - summary["rows_out"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["rejects"].items())
    repairs = ", ".join(f"{count} {reason}" for reason, count in summary["repairs"].items())
    print(f"rows     {summary['rows_in']:,} in = {summary['rows_out']:,} out + {rejected:,} rejected", end="")
    print(f" ({reasons})" if reasons else "")
    print(f"repairs  {repairs} (kept without what was damaged)" if repairs else "repairs  none")
    print(
        f"content  {summary['with_image']:,} with a picture ({summary['images']:,} pictures), "
        f"{summary['with_title']:,} with a title, {summary['categories']:,} leaf categories"
    )
    splits = " · ".join(f"{name} {count:,}" for name, count in summary["splits"].items())
    ignored = "".join(
        f" · {count:,} rows with a {kind} on too many rows, ignored" for kind, count in summary["ignored_keys"].items()
    )
    print(f"splits   {splits} · {summary['split_leaking']:,} rows in a group that crosses splits{ignored}")
    print(f"wrote    {out} (fingerprint {summary['fingerprint'][:12]})")


if __name__ == "__main__":
    doors.run(main, door="prepare", default_config=Path(__file__).parents[1] / "configs" / "prepare.py")
