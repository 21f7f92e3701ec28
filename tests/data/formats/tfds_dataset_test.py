"""TFDS data sets are read by folder or name, without TensorFlow: pictures encoded, labels named, lists as lists."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from ecommerce_vl.data.feed import estimated_rows, feed_sources, read_rows, source_digest
from ecommerce_vl.data.record import to_product
from ecommerce_vl.errors import UserError

FEATURES = {
    "name": tfds.features.Text(),
    "photo": tfds.features.Image(),
    "views": tfds.features.Sequence(tfds.features.Image()),
    "label": tfds.features.ClassLabel(names=["shoe", "shirt"]),
    "price": np.float32,
    "tags": tfds.features.Sequence(tfds.features.Text()),
    "attributes": tfds.features.Sequence({"name": tfds.features.Text(), "value": tfds.features.Text()}),
}
COLUMNS = {"image_link": "photo", "additional_image_link": "views", "product_type": "label"}


def picture(shade: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(data, "PNG")
    return data.getvalue()


def example(number: int) -> dict:
    return {
        "name": f"Größe {number}",
        "photo": io.BytesIO(picture(number)),
        "views": [io.BytesIO(picture(100 + number)), io.BytesIO(picture(200))],
        "label": number % 2,
        "price": number + 0.5,
        "tags": ["a", "b"],
        "attributes": [{"name": "fit", "value": "slim"}, {"name": "color", "value": "red"}],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    features = tfds.features.FeaturesDict(FEATURES)
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    infos = []
    for split, length in (("extra", 3), ("train", 70)):
        file = folder / f"shop-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(file), "group_size:1")
        for number in range(length):
            writer.write(features.serialize_example(features.encode_example(example(number))))
        writer.close()
        names = tfds.core.ShardedFileTemplate(
            data_dir=folder, template=template, dataset_name="shop", split=split, filetype_suffix="array_record"
        )
        size = file.stat().st_size
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[length], num_bytes=size, filename_template=names))
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder), features=features, split_infos=infos, filename_template=template, check_data=False
    )
    return folder


def test_all_splits_or_one(folder):
    sources = feed_sources(f"tfds:{folder}")
    assert [(found.path.rpartition(":")[2], estimated_rows(found)) for found in sources] == [
        ("train", 70),
        ("extra", 3),
    ]
    (part,) = feed_sources(f"tfds:{folder}:train[:5]")
    assert [row["name"] for row in read_rows(part)] == [f"Größe {number}" for number in range(5)]
    assert len({source_digest(found) for found in (*sources, part)}) == 3
    assert source_digest(part) == source_digest(part)


def test_examples_become_products(folder):
    rows = list(read_rows(feed_sources(f"tfds:{folder}")[0]))
    assert len(rows) == 70
    product = to_product(rows[65], row_number=0, columns=COLUMNS)
    assert (product.id, product.title, product.split) == ("train-65", "Größe 65", "train")
    assert (product.product_type, product.color, product.price) == ("shirt", "red", "65.5")
    assert product.images == [picture(65), picture(165), picture(200)]
    assert product.attributes == {"tags": ["a", "b"], "fit": "slim"}
    assert "split" not in next(read_rows(feed_sources(f"tfds:{folder}")[1]))


@pytest.mark.parametrize(
    ("request_", "message"),
    [("{folder}:nowhere", "names the split 'nowhere'; found"), ("no_such_data", "is no TFDS data set on this machine")],
)
def test_requests_that_are_none(folder, request_, message):
    with pytest.raises(UserError, match=message):
        feed_sources("tfds:" + request_.format(folder=folder))


def test_a_damaged_data_set_is_named(folder, tmp_path):
    for file in folder.iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[: len(data) // 2] if "array_record" in file.name else data)
    with pytest.raises(UserError, match="cannot be read beyond row 0"):
        list(read_rows(feed_sources(f"tfds:{tmp_path}")[0]))
