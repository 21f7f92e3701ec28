"""How preparation scales: products a second and peak memory, on generated metadata, with and without pictures.

    python benchmarks/prepare.py --rows=10000,100000,1000000 [--pictures] [--work=/tmp/prepare_benchmark]

Titles, brands, sellers, groups and gtins are drawn by SQL, a fifth of the listings being another seller's copy.
Peak memory is the largest sum of the resident memory of all processes of the job (pages shared by several count in
each), sampled four times a second, of each stage: reading rows into parts, curating them in SQL, writing shards, and
the report. With --pictures each listing carries a JPEG of its own inside the feed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ecommerce_vl.data.preparation import WORK
from ecommerce_vl.data.workers import on_all_cores, worker_count

ROOT = Path(__file__).parents[1]
WORDS = [
    "soft",
    "light",
    "warm",
    "slim",
    "long",
    "short",
    "wide",
    "classic",
    "modern",
    "sport",
    "city",
    "eco",
    "dry",
    "pure",
]
THINGS = ["shirt", "jacket", "shoe", "boot", "dress", "skirt", "lamp", "chair", "table", "bag", "watch", "mug", "knife"]
SIDE = 256  # pixels of a generated picture, about 20 kB
STAGES = ("read", "curate", "write", "report")


def write_feed(file: Path, *, rows: int) -> None:
    """Parquet metadata of `rows` listings; nothing is held in memory."""
    with duckdb.connect() as connection:
        connection.execute("CREATE MACRO draw(seed, place, n) AS (hash(seed, place) % n)::BIGINT")
        connection.execute(f"CREATE MACRO word(seed, place) AS {WORDS}[1 + draw(seed, place, {len(WORDS)})]")
        connection.execute(f"CREATE MACRO thing(seed, place) AS {THINGS}[1 + draw(seed, place, {len(THINGS)})]")
        connection.execute(f"""
            COPY (
                SELECT 'P' || i AS id, 'S' || draw(i, 9, 97) AS seller_id, 'G' || (product // 3) AS item_group_id,
                    brand || ' ' || word(product, 1) || ' ' || word(product, 2) || ' ' || thing(product, 3) || ' '
                    || draw(product, 4, 1000000) || CASE WHEN i <> product THEN ' NEW' ELSE '' END AS title,
                    brand, 'Top ' || draw(product, 3, 12) || ' > Middle ' || draw(product, 3, 60)
                    || ' > Leaf ' || draw(product, 3, 600) AS product_type,
                    ['red', 'blue', 'green', 'black'][1 + draw(product, 5, 4)] AS color, 'en' AS locale,
                    {{'fit': 'slim', 'care': 'wash cold', 'weight': draw(i, 6, 900)::VARCHAR}} AS attributes
                FROM (
                    SELECT i, product, 'Brand' || draw(product, 0, 5000) AS brand
                    FROM (SELECT i, CASE WHEN i % 5 = 4 THEN i - 4 ELSE i END AS product FROM range({rows}) t(i))
                )
            ) TO '{file}' (FORMAT parquet, ROW_GROUP_SIZE 10000)
        """)


def add_pictures(file: Path) -> None:
    """Rewrites a feed with one JPEG a listing: large tiles, which compress as a photograph does."""
    with_pictures = file.with_suffix(".pictures")
    table = pq.ParquetFile(file, pre_buffer=False)
    schema = table.schema_arrow.append(pa.field("image_link", pa.binary()))
    with pq.ParquetWriter(with_pictures, schema) as writer:
        drawn = on_all_cores(
            _with_pictures, enumerate(table.iter_batches(batch_size=1000)), num_workers=worker_count(0)
        )
        for batch in drawn:
            writer.write_batch(batch)
    with_pictures.replace(file)


def _with_pictures(numbered: tuple[int, pa.RecordBatch]) -> pa.RecordBatch:
    number, batch = numbered
    rng = np.random.default_rng(number)
    column = pa.array([_picture(rng) for _ in range(batch.num_rows)], pa.binary())
    return batch.append_column("image_link", column)


def _picture(rng: np.random.Generator) -> bytes:
    tiles = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).resize((SIDE, SIDE))
    buffer = io.BytesIO()
    tiles.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def measure(feed: Path, out: Path, more: list[str]) -> tuple[dict[str, float], dict[str, int]]:
    """Seconds, and peak resident bytes of all processes, of each of `STAGES` of one preparation."""
    command = [sys.executable, "-m", "ecommerce_vl.prepare", f"--feed={feed}", f"--out={out}", *more]
    seconds, peaks = dict.fromkeys(STAGES, 0.0), dict.fromkeys(STAGES, 0)
    last = time.monotonic()
    job = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while job.poll() is None:
        held = 0
        for process in [job, *_children(job)]:
            with contextlib.suppress(psutil.Error):  # it may have ended since
                held += process.memory_info().rss
        stage, now = _stage(out), time.monotonic()
        peaks[stage] = max(peaks[stage], held)
        seconds[stage] += now - last
        last = now
        time.sleep(0.25)
    if job.returncode:
        sys.exit(f"{' '.join(command)} failed with exit status {job.returncode}")
    return seconds, peaks


def _stage(out: Path) -> str:
    """The stage of a preparation, by what it has written so far."""
    work = out / WORK
    if (out / "prepare.json").exists():
        return "report"
    return "write" if (work / "shards").exists() else "curate" if (work / "curated").exists() else "read"


def _children(job: psutil.Process) -> list[psutil.Process]:
    try:
        return job.children(recursive=True)
    except psutil.Error:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,100000", help="sizes, comma separated")
    parser.add_argument("--pictures", action="store_true", help="a JPEG in every row")
    parser.add_argument("--work", type=Path, default=Path("/tmp/prepare_benchmark"), help="folder; emptied")
    arguments, more = parser.parse_known_args()
    stages = "".join(f"{f'{stage} s':>10}{'MiB':>7}" for stage in STAGES)
    print(f"{'rows':>12}{'seconds':>10}{'rows/s':>10}{stages}{'feed MB':>10}{'shards MB':>11}")
    for rows in map(int, arguments.rows.split(",")):
        shutil.rmtree(arguments.work, ignore_errors=True)
        arguments.work.mkdir(parents=True)
        feed, out = arguments.work / "products.parquet", arguments.work / "data"
        write_feed(feed, rows=rows)
        if arguments.pictures:
            add_pictures(feed)
        seconds, peaks = measure(feed, out, more)
        summary = json.loads((out / "prepare.json").read_text())
        if summary["rows_in"] != rows:
            sys.exit(f"{summary['rows_in']} rows in, expected {rows}")
        size = sum(file.stat().st_size for file in out.glob("*.array_record-*"))
        total = sum(seconds.values())
        stages = "".join(f"{seconds[stage]:>10.1f}{peaks[stage] / 2**20:>7,.0f}" for stage in STAGES)
        print(
            f"{rows:>12,}{total:>10.1f}{rows / total:>10,.0f}{stages}"
            f"{feed.stat().st_size / 1e6:>10,.0f}{size / 1e6:>11,.0f}",
            flush=True,
        )
    shutil.rmtree(arguments.work)


if __name__ == "__main__":
    main()
