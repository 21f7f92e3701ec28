"""The shards are a TFDS data set that anybody can open without TensorFlow, and the same records give the same bytes."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from ecommerce_vl.data.shards import (
    FEATURES,
    KEYS,
    STORED_FIELDS,
    fingerprint,
    open_split,
    parse,
    serialize,
    shard_file,
    split_info,
    write_metadata,
    write_shard,
)


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def record(row: int) -> dict:
    return (
        dict.fromkeys(STORED_FIELDS, "")
        | {"id": f"p{row}", "title": "Größe 赤い"}
        | dict.fromkeys(KEYS, row)
        | {
            "attributes": [{"name": "fit", "type": "text", "value": "slim"}],
            "images": [jpeg(50 * n) for n in range(row % 3)],
        }
    )


def write(folder: Path, *, rows: int = 7) -> Path:
    folder.mkdir()
    infos = []
    for split in ("train", "test"):
        shards = [range(start, min(start + 3, rows)) for start in range(0, rows, 3)]
        for number, of_shard in enumerate(shards):
            file = shard_file(folder, split=split, shard=number, num_shards=len(shards))
            assert write_shard(file, map(record, of_shard)) == len(of_shard)
        infos.append(split_info(folder, split=split, shard_rows=[len(of_shard) for of_shard in shards]))
    write_metadata(folder, infos)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("shards") / "a")


def test_records_come_back_in_order_with_pictures_untouched(folder):
    source = open_split(folder, split="train")
    assert len(source) == 7
    for row in range(7):
        found = parse(source[row])
        assert found["id"] == f"p{row}"
        assert found["title"] == "Größe 赤い"
        assert [bytes(image) for image in found["images"]] == record(row)["images"]
        assert found["product_key"] == row
        assert found["attributes"] == {"fit": "slim"}
    assert sorted(file.name for file in folder.glob("*train*")) == [
        f"products-train.array_record-0000{shard}-of-00003" for shard in range(3)
    ]
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("row", range(3))
def test_the_quick_serialization_is_that_of_tfds(row):
    ours = record(row) | {"attributes": record(row)["attributes"] * row}
    as_files = ours | {"images": [io.BytesIO(data) for data in ours["images"]]}
    theirs = FEATURES.serialize_example(FEATURES.encode_example(as_files))
    parse = tf_example_pb2.Example.FromString
    assert parse(serialize(ours)) == parse(theirs)


def test_an_unknown_split_is_named(folder):
    with pytest.raises(ValueError, match="split is 'val'; expected one of train, validation, test"):
        open_split(folder, split="val")


def test_the_same_records_give_the_same_fingerprint(folder, tmp_path):
    assert fingerprint(write(tmp_path / "same")) == fingerprint(folder)
    assert fingerprint(write(tmp_path / "fewer", rows=6)) != fingerprint(folder)


def test_tfds_alone_opens_them_without_a_framework(folder):
    program = """
import sys
import tensorflow_datasets as tfds
source = tfds.builder_from_directory(sys.argv[1]).as_data_source("train")
product = source[2]
assert [(image.shape, image.dtype) for image in product["images"]] == [((30, 40, 3), "uint8")] * 2
assert abs(int(product["images"][1][0, 0, 0]) - 50) < 4
assert not {"tensorflow", "torch", "jax"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)


def test_the_room_itself_imports_no_framework():
    program = """
import sys
from ecommerce_vl.data import feed, images, preparation, record, shards, split, text, tokenizer
assert not {"tensorflow", "torch", "jax"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_full_disk_is_an_os_error(tmp_path):
    """In a process of its own, since the limit on file sizes that stands in for the disk cannot be raised again."""
    program = f"""
import pathlib, resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import shards_test
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    shards_test.write(pathlib.Path(sys.argv[1]))
except OSError as error:
    print(error.errno, error.filename)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "full")], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["27", str(tmp_path / "full")]
