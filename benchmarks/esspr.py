"""The public evaluation of eSSPR: a file of annotated pairs becomes a feed, and a trained run is measured on it.

    python benchmarks/esspr.py import --file=esspr_eval.csv --out=FEED
    python -m ecommerce_vl.prepare --feed=FEED/products.jsonl --out=DATA --config=configs/prepare.py:raw \\
        --config.split.fractions="(0, 0, 1)" --config.images.fetch --config.images.allowed_hosts=HOSTS
    python benchmarks/esspr.py measure --workdir=RUN --data=DATA --judgements=FEED/judgements.jsonl

The second command fetches the pictures once and keeps them: links rot. The third prints, for each direction, the
figures with their intervals, the size of the gallery and the share of products with a picture; --reverse lets recalled
products ask, --distinct_images leaves out pairs with one picture, by its perceptual hash.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

MAX_PIXELS = 89_000_000  # as prepare refuses larger ones


def import_file(args) -> None:
    from ecommerce_vl.data.feed import feed_sources, read_rows
    from ecommerce_vl.data.formats.esspr import read_pairs, write

    rows = (row for source in feed_sources(args.file) for row in read_rows(source))
    judged = read_pairs(rows, name=args.file)
    write(judged, Path(args.out))
    print(json.dumps(judged.counts()))


def measure_run(args) -> None:
    import ecommerce_vl as vl
    from ecommerce_vl.data.prepared import PreparedData
    from ecommerce_vl.evaluation import embedding
    from ecommerce_vl.evaluation.judged_pairs import measure
    from ecommerce_vl.progress import Progress

    judgements = map(json.loads, Path(args.judgements).read_text(encoding="utf-8").splitlines())
    positives = [(row["trigger"], row["recall"]) for row in judgements if row["label"]]
    products = embedding.embed(
        vl.load(args.workdir), PreparedData(args.data).records(args.split), progress=Progress("embed")
    )
    pictures = [picture_hash(image) for image in products.images] if args.distinct_images else None
    found = measure(products, positives, reverse=args.reverse, pictures=pictures, seed=args.seed)
    with_picture = products.present("image").mean()
    print(f"{len(products):,} products, {with_picture:.1%} with a picture; {len(positives):,} pairs of one style")
    print("| direction | queries | coverage | gallery | mrr | hit@1 | hit@5 | hit@10 | hit@20 |\n|" + "---|" * 9)
    for direction in dict.fromkeys(key.split("/")[0] for key in found):
        entries = [found[f"{direction}/{name}"] for name in ("mrr", "hit@1", "hit@5", "hit@10", "hit@20")]
        cells = [f"{entry['value']:.3f} ({entry['low']:.3f}-{entry['high']:.3f})" for entry in entries]
        one = entries[0]
        print(f"| {direction} | {one['n']:,} | {one['coverage']:.1%} | {one['candidates']:,} | {' | '.join(cells)} |")


def picture_hash(encoded: bytes | None) -> bytes | None:
    """The same for pictures that look the same, as prepare tells; None without one."""
    from ecommerce_vl.data.image_hash import perceptual_hash
    from ecommerce_vl.data.images import ImageDefect, decode

    try:
        return perceptual_hash(decode(encoded or b"", target=None, max_pixels=MAX_PIXELS))
    except ImageDefect:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    importing = commands.add_parser("import")
    importing.add_argument("--file", required=True)
    importing.add_argument("--out", required=True)
    importing.set_defaults(run=import_file)
    measuring = commands.add_parser("measure")
    for name in ("workdir", "data", "judgements"):
        measuring.add_argument(f"--{name}", required=True)
    measuring.add_argument("--split", default="test")
    for name in ("reverse", "distinct_images"):
        measuring.add_argument(f"--{name}", action="store_true")
    measuring.add_argument("--seed", type=int, default=0)
    measuring.set_defaults(run=measure_run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
