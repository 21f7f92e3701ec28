"""Time and memory of mining a click log of a given size.

    python benchmarks/logs.py --rows=1000000 --products=100000 --folder=/tmp/logs

Draws Parquet files of 250,000 rows, one at a time, over products with a few words each; then times mine_logs. Prints
one JSON line: rows a second, seconds of drawing and mining, peak memory of this process (which runs the engine, too),
and the largest size of the working folder.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

CHUNK = 250_000
EVENTS_PER_SESSION = 12
PRODUCTS_PER_CATEGORY = 200


def write_index(folder: Path, num_products: int) -> None:
    """Products in categories of 200, each with its category's word and one of twenty colours in the title."""
    category, color = np.arange(num_products) // PRODUCTS_PER_CATEGORY, np.arange(num_products) % 20
    ids = [f"p{number}" for number in range(num_products)]
    keys = pa.array(np.arange(num_products))
    unknown = pa.array(-1 - np.arange(num_products))
    columns = {
        "id": ids,
        "split": np.where(np.arange(num_products) % 50 == 0, "test", "train"),
        **{"product_key": keys, "catalog_key": unknown, "group_key": unknown},
        "category": [f"Shop > kind{number}" for number in category],
        "title": [f"kind{kind} shade{tint} item" for kind, tint in zip(category, color, strict=True)],
        "seller_id": [f"s{number % 97}" for number in range(num_products)],
        "image_hash": [f"{number:064x}" for number in range(num_products)],
        "title_hash": pa.array(np.arange(num_products, dtype=np.uint64)),
    }
    pq.write_table(pa.table(columns), folder / "index.parquet")


def write_clicks(folder: Path, rows: int, num_products: int, seed: int) -> None:
    """Sessions of a dozen events on one query: mostly impressions by rank, 15 % clicks, few carts and purchases."""
    folder.mkdir(parents=True, exist_ok=True)
    categories = num_products // PRODUCTS_PER_CATEGORY
    for part, start in enumerate(range(0, rows, CHUNK)):
        size = min(CHUNK, rows - start)
        rng = np.random.default_rng([seed, part])
        session = (start + np.arange(size)) // EVENTS_PER_SESSION
        num_sessions = int(session[-1] - session[0] + 1)
        place = session - session[0]
        # Squares make some categories and products many times as popular as others.
        kind = (rng.random(num_sessions) ** 2 * categories).astype(np.int64)[place]
        tint = rng.integers(0, 20, num_sessions)[place]
        rank = 1 + (start + np.arange(size)) % EVENTS_PER_SESSION
        product = kind * PRODUCTS_PER_CATEGORY + 20 * (rng.random(size) ** 2 * 10).astype(np.int64) + tint
        client = rng.integers(0, max(rows // 40, 1), num_sessions)[place]
        moment = 1_767_600_000_000 + session * 997 + rank * 2_000
        action = np.array(["impression", "click", "add_to_cart", "purchase"])[
            np.searchsorted([0.80, 0.95, 0.985], rng.random(size))
        ]
        table = pa.table(
            {
                "session": np.char.add("s", session.astype(str)),
                "client": np.char.add("c", client.astype(str)),
                "ts": moment,
                "query": np.char.add(np.char.add("kind", kind.astype(str)), np.char.add(" shade", tint.astype(str))),
                "product": np.char.add("p", product.astype(str)),
                "action": action,
                "rank": rank,
            }
        )
        pq.write_table(table, folder / f"part-{part:05d}.parquet")


def watch_folder(folder: Path, most: list[int], stop: threading.Event) -> None:
    """Keeps the largest size that the folder had, in bytes, in `most[0]`."""
    while not stop.wait(1):
        sizes = 0
        for file in folder.rglob("*"):
            try:
                sizes += file.stat().st_size
            except FileNotFoundError:  # the engine removes what it spilled
                continue
        most[0] = max(most[0], sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True, help="emptied first")
    parser.add_argument("--memory_limit", default="4GB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from ecommerce_vl.data.logs.mining import mine_logs

    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    start = time.monotonic()
    write_index(options.folder, options.products)
    write_clicks(options.folder / "clicks", options.rows, options.products, options.seed)
    drawn_s = time.monotonic() - start
    drawing_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    most, stop = [0], threading.Event()
    watch = threading.Thread(target=watch_folder, args=(options.folder / ".logs.partial", most, stop), daemon=True)
    watch.start()
    start = time.monotonic()
    engine = {"memory_limit": options.memory_limit, "num_threads": options.threads}
    progress = lambda label: lambda done, total: print(f"{label} {done}/{total} {time.monotonic() - start:.0f}s")
    summary = mine_logs(options.folder, clicks=str(options.folder / "clicks"), progress=progress, **engine)
    mined_s = time.monotonic() - start
    stop.set()
    result = {
        "rows": options.rows,
        "products": options.products,
        "memory_limit": options.memory_limit,
        "draw_s": round(drawn_s, 1),
        "mine_s": round(mined_s, 1),
        "rows_per_s": round(options.rows / mined_s),
        "peak_mib_drawing": round(drawing_mib),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "work_mib": round(most[0] / 2**20),
        "item_pairs": summary["stages"]["item_caps"]["rows_out"],
        "query_pairs": summary["stages"]["query_caps"]["rows_out"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
