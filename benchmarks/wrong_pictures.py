"""What is leaving out low pairs worth? Plants wrong pictures in a feed, and trains with them and without.

    python -m benchmarks.wrong_pictures --feed=products.jsonl --data=DATA --out=RUNS [--share=0.2] [--seeds=3]

DATA is the feed (JSON lines with `id` and `images`) as prepared. A share of its train products gets the picture of
another of them, drawn from all, each picture once. The arms see as many samples: of the feed as it was (`clean`), with
the wrong pictures (`planted`), without what a seed model of a tenth of the planted feed ranks lowest (`lowest`, that
share of each category, twice it in `lowest_twice`), and without all wrong ones, which nobody knows in practice
(`known`). Measured on DATA's split, where nothing is planted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import ecommerce_vl as vl
from benchmarks.ablation import ablate, arguments
from benchmarks.item_ablation import leaf_accuracy, means
from configs import myntra
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.evaluation import embedding, retrieval
from ecommerce_vl.evaluation.context import Context

ARMS = ("clean", "planted", "lowest", "lowest_twice", "known")
SEED_MODEL = (
    *("--config.data.fraction=0.1", "--config.image.size=64"),
    *("--config.total_samples=14700", "--config.optimizer.warmup_samples=1500"),
)
SETTINGS = [setting for setting in retrieval.SETTINGS if setting.task == "image_text"]


def main() -> None:
    parser = arguments(__doc__, arms=ARMS, config="myntra")
    parser.add_argument("--feed", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.2, help="of the train products")
    args = parser.parse_args()
    planted, known = args.out / "planted", args.out / "known"
    if not (args.out / "feeds").exists():
        write_feeds(args.feed, PreparedData(args.data), args.out / "feeds", share=args.share)
    prepare(planted), prepare(known)
    seed = args.out / "seed"
    door("train", "--config=configs/myntra.py", f"--workdir={seed}", f"--config.data.path={planted}", *SEED_MODEL)
    door("export", f"--workdir={seed}", f"--data={planted}", f"--out={args.out / 'vectors'}", "--thumbnails=False")
    prepare(planted, f"--vectors={args.out / 'vectors'}")
    ablate(
        args,
        get_config=lambda name: myntra.get_config(),
        arms={name: {} for name in ARMS}
        | {"lowest": {"data.drop_lowest": args.share}, "lowest_twice": {"data.drop_lowest": 2 * args.share}},
        measure=lambda workdir, data, split: measure(workdir, args.data, split),
        data_of=lambda arm: {"clean": args.data, "known": known}.get(arm, planted),
    )


def write_feeds(feed: Path, data: PreparedData, out: Path, *, share: float) -> None:
    """`planted.jsonl` with wrong pictures, and `known.jsonl` without their products; the drawing has the seed 0."""
    rows = [json.loads(line) for line in feed.open()]
    for row in rows:
        row["images"] = [str((feed.parent / name).resolve()) for name in row["images"]]
    train = set(data.rows("train")["id"])
    candidates = [number for number, row in enumerate(rows) if row["id"] in train and row["images"]]
    chosen = np.random.default_rng(0).choice(candidates, int(share * len(candidates)), replace=False)
    known = [row for number, row in enumerate(rows) if number not in set(chosen)]
    pictures = [rows[number]["images"] for number in np.roll(chosen, 1)]
    wrong = [rows[number] | {"images": images} for number, images in zip(chosen, pictures, strict=True)]
    out.mkdir(parents=True)
    for name, lines in (("known", known), ("planted", known + wrong)):
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines))


def prepare(folder: Path, *flags: str) -> None:
    feed = folder.parent / "feeds" / f"{folder.name}.jsonl"
    door("prepare", f"--feed={feed}", f"--out={folder}", "--config.images.max_side=128", *flags)


def door(name: str, *flags: str) -> None:
    subprocess.run([sys.executable, "-m", f"ecommerce_vl.{name}", *flags], check=True)


def measure(workdir: Path, data: Path, split: str) -> dict[str, float]:
    """Column -> value: hit@k of titles by pictures and back, and the leaf category by a probe on the picture."""
    encoder, prepared = vl.load(workdir), PreparedData(data)
    embedded = {
        name: embedding.embed(encoder, prepared.records(name), progress=lambda done, total: None)
        for name in (split, "train", "validation")
    }
    context = Context(test=embedded[split], train=embedded["train"], validation=embedded["validation"], encoder=encoder)
    hits = {
        f"{setting.name} {metric}": value
        for setting in SETTINGS
        for metric, value in means(embedded[split], setting).items()
    }
    return hits | {"leaf i": leaf_accuracy(context, "image")}


if __name__ == "__main__":
    main()
