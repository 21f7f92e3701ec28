"""Door: a product feed becomes shards that training, evaluation and export read.

    python -m ecommerce_vl.prepare --feed=FILE_OR_FOLDER --out=DATA [--config=configs/prepare.py]

Reads JSON lines, Parquet, CSV, TSV, Merchant Center XML, Shopify CSV, WebDataset tars and TFDS data sets, local or in a
bucket, with Merchant Center names or the usual aliases; `sample:2000[:seed]` draws the sample catalog into DATA/feed
first. Cleans, finds what is the same, splits, and writes TFDS shards with their tables, prepare.json and report.html;
with --clicks and --queries also pairs of products and queries; with --vectors, what a seed model finds in it. The same
command continues a killed job.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ecommerce_vl import doors
from ecommerce_vl.errors import UserError

FEED = flags.DEFINE_string(
    "feed", None, "file, folder, glob, several with commas, or sample:LISTINGS[:SEED]", required=True
)
OUT = flags.DEFINE_string("out", None, "folder for the prepared data", required=True)
CLICKS = flags.DEFINE_string(
    "clicks", None, "click log to mine pairs from: UBI, GA4 export, Retail API, Coveo or plain columns"
)
QUERIES = flags.DEFINE_string("queries", None, "query log beside it, where queries lie in files of their own")
VECTORS = flags.DEFINE_string(
    "vectors", None, "vectors that export made of --out with a seed model: what do they say of pictures and titles?"
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace what an earlier feed or config left in --out")
EXPLAIN = flags.DEFINE_bool("explain", False, "print what each column becomes, and stop")
CONFIG = config_flags.DEFINE_config_file("config", None, "settings; configs/prepare.py if not given")


def main() -> None:
    from functools import partial

    from ecommerce_vl.data.explanation import explanation
    from ecommerce_vl.data.feed import feed_sources
    from ecommerce_vl.data.logs.audit import write_audit
    from ecommerce_vl.data.logs.mining import mine_logs
    from ecommerce_vl.data.logs.sources import log_files
    from ecommerce_vl.data.preparation import is_prepared, prepare_feed, validate
    from ecommerce_vl.data.prepared import read_summary
    from ecommerce_vl.data.report.page import FILE, PAIRS_PAGE, write_report
    from ecommerce_vl.data.report.seed_page import write_seed_page
    from ecommerce_vl.data.sample.request import draw_sample, parse_sample
    from ecommerce_vl.data.seed_model.findings import write_findings
    from ecommerce_vl.data.summary import found_lines, mined_lines, prepared_lines
    from ecommerce_vl.exporting.reader import ExportedVectors
    from ecommerce_vl.progress import Progress

    if not OUT.value:
        raise UserError("--out is empty; expected a folder for the prepared data")
    if QUERIES.value and not CLICKS.value:
        raise UserError("--queries says what was searched for, not what was clicked; add --clicks=FILE")
    feed, out, config = FEED.value, Path(OUT.value), CONFIG.value.to_dict()
    validate(config)
    sample = parse_sample(feed)
    if EXPLAIN.value:
        for line in explanation(feed, config["columns"]):
            print(line)
        return
    if sample:  # drawing replaces the feed that prepared data were made of
        may_replace = not read_summary(out) or OVERWRITE.value
        drawing = {"num_workers": config["num_workers"], "progress": Progress("sample")}
        feed = draw_sample(sample, out, replace=may_replace, **drawing)
    sources = feed_sources(feed)
    for flag, logs in (("clicks", CLICKS.value), ("queries", QUERIES.value)):
        if logs:
            log_files(logs, flag)
    vectors = ExportedVectors(VECTORS.value).seed_vectors() if VECTORS.value else None
    if is_prepared(out, sources, config, overwrite=OVERWRITE.value):
        print(
            f"prepare: {out} already holds this feed with these settings; "
            "nothing to do (add --overwrite if pictures changed)"
        )
    else:
        summary = prepare_feed(feed, out, config=config, progress=Progress)
        print("\n".join(prepared_lines(summary, out)))
    steps, limit = partial(Progress, unit="steps"), {"memory_limit": config["memory_limit"]}
    if vectors:
        found = write_findings(out, vectors, config=config["seed_model"], progress=steps("vectors"), **limit)
        print("\n".join(found_lines(found)))
        print(f"findings {write_seed_page(out, **limit)}")
    if CLICKS.value:
        logs = {"clicks": CLICKS.value, "queries": QUERIES.value, "vectors": vectors}
        num_threads = config["num_workers"] or 2  # of one engine, which share its memory
        mined = mine_logs(out, **logs, config=config["logs"], num_threads=num_threads, progress=steps, **limit)
        print("\n".join(mined_lines(mined)))
        print(f"pairs    {write_audit(out, out / PAIRS_PAGE)}")
    if CLICKS.value or vectors or not (out / FILE).exists():
        print(f"report   {write_report(out, **limit)}")


if __name__ == "__main__":
    doors.run(main, door="prepare", default_config=Path(__file__).parents[1] / "configs" / "prepare.py")
