"""Tars of samples become rows with their pictures; a broken sample costs only itself."""

import io
import json
import tarfile

import pytest

from ecommerce_vl.data.feed import BadRow, feed_sources, read_rows
from ecommerce_vl.data.formats import webdataset
from ecommerce_vl.data.record import to_product
from ecommerce_vl.errors import UserError


def write_tar(file, members: list[tuple[str, bytes]], mode: str = "w"):
    with tarfile.open(file, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def rows_of(tmp_path, *members: tuple[str, bytes]) -> list:
    write_tar(tmp_path / "shard.tar", list(members))
    return list(read_rows(*feed_sources(str(tmp_path / "shard.tar"))))


def test_samples_with_columns_text_and_pictures(tmp_path):
    columns = json.dumps({"id": "7", "title": "Größe M", "url": "https://s/7", "image_url": "https://s/7.jpg"}).encode()
    rows = rows_of(
        tmp_path,
        ("a/0001.json", columns),
        ("a/0001.jpg", b"\xff\xd81"),
        ("a/0001.side.png", b"\x89P"),
        ("a/0002.txt", "赤い靴\n".encode()),
        ("a/0002.jpg", b"\xff\xd82"),
        ("a/0002.npy", b"\x93\xff"),
        ("a/0003.cls", b"4"),
    )
    first, second, third = (to_product(row, row_number=0, columns={}) for row in rows)
    assert (first.id, first.title, first.link) == ("7", "Größe M", "https://s/7")
    assert first.images == [b"\xff\xd81", b"\x89P"]
    assert first.attributes == {"source of image_url": "https://s/7.jpg"}
    assert (second.id, second.title, second.images) == ("a/0002", "赤い靴", [b"\xff\xd82"])
    assert (third.id, third.attributes) == ("a/0003", {"cls": "4"})


def test_broken_samples_cost_only_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "MAX_MEMBER", 100)
    rows = rows_of(
        tmp_path,
        *[("1.json", b'{"id": '), ("2.json", b"[1]"), ("3.txt", b"Gr\xf6"), ("4.jpg", b"x" * 200), ("5.txt", b"good")],
    )
    reasons = [row.reason if isinstance(row, BadRow) else "" for row in rows]
    assert reasons == ["invalid_json", "invalid_json", "invalid_encoding", "sample_too_large", ""]


def test_packed_and_numbered_shards(tmp_path):
    for number in (8, 9, 10):
        write_tar(tmp_path / f"s-{number:03d}.tar", [(f"{number}.txt", b"title")])
    write_tar(tmp_path / "packed.tar.gz", [("p.txt", b"title")], "w:gz")
    sources = feed_sources(f"{tmp_path}/s-{{008..010}}.tar,{tmp_path}/packed.tar.gz")
    assert [row["id"] for found in sources for row in read_rows(found)] == ["8", "9", "10", "p"]
    with pytest.raises(UserError, match=r"s-011.tar"):  # one that is missing is not left out in silence
        feed_sources(f"{tmp_path}/s-{{008..011}}.tar")


def test_a_damaged_shard_is_named(tmp_path):
    write_tar(tmp_path / "shard.tar", [(f"{number}.jpg", b"x" * 2000) for number in range(20)])
    data = (tmp_path / "shard.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[:7000])
    (tmp_path / "text.tar").write_bytes(b"id,title" * 200)
    for name in ("cut.tar", "text.tar"):
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            list(read_rows(*feed_sources(str(tmp_path / name))))
