"""A prepared catalog of 20 real listings in shards of 4: pictures of one colour, titles that name it."""

import io
import json
from pathlib import Path

from fake_encoder import COLOURS, UNREADABLE
from PIL import Image

from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.exporting.vectors import export_vectors

HOSTILE = "<script>alert(1)</script> red & blue"


def jpeg(colour, size=(80, 100)):
    encoded = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(encoded, "JPEG", quality=95)
    return encoded.getvalue()


def write_catalog(folder: Path, edit=lambda rows: rows) -> Path:
    """20 products: SKU-00 has no title, SKU-01 no picture, SKU-02 neither that the fake encoder can read.

    `edit` gives other rows of the feed than these; pictures are N.jpg in `folder`.
    """
    from configs.prepare import get_config
    from ecommerce_vl.data.preparation import prepare_feed

    folder.mkdir(parents=True)
    rows = []
    for number in range(20):
        colour = list(COLOURS)[number % 4]
        (folder / f"{number}.jpg").write_bytes(jpeg(colour, UNREADABLE if number == 2 else (80, 100)))
        rows.append(
            {
                "id": f"SKU-{number:02d}",
                "title": "" if number in (0, 2) else HOSTILE if number == 3 else f"{colour} dress {number}",
                "image_link": "" if number == 1 else f"{number}.jpg",
                "item_group_id": f"G{number // 4}" if number % 2 else "",
                "product_type": "Apparel > Dresses",
                "brand": "Acme",
                "adult": "yes" if number == 5 else "no",
                "split": "train" if number < 12 else "validation" if number < 16 else "test",
            }
        )
    feed = folder / "feed.jsonl"
    feed.write_text("".join(json.dumps(row) + "\n" for row in edit(rows)))
    config = get_config("raw").to_dict() | {"rows_per_shard": 4}  # one colour would be blank
    out = folder / "data"
    prepare_feed(str(feed), out, config=config, progress=lambda label: lambda done, total: None)
    return out


def export(encoder, data, out, **options):
    options = {"split": "all", "progress": lambda done, total: None, "log": lambda line: None} | options
    return export_vectors(encoder, data=PreparedData(data), out=out, **options)
