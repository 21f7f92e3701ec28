"""The shards are a function of parts and places: any runner and any worker writes the same bytes."""

from pathlib import Path

import pytest

from configs.prepare import get_config
from ecommerce_vl.data.assembly import Shard, shards_of
from ecommerce_vl.data.preparation import prepare_feed
from ecommerce_vl.errors import UserError


def prepare(sample_data: Path, out: Path, **settings) -> dict[str, bytes]:
    config = get_config().to_dict() | {"rows_per_shard": 40, **settings}
    feed = str(sample_data / "feed" / "products.jsonl")
    prepare_feed(feed, out, config=config, progress=lambda label: lambda done, total: None)
    return {file.name: file.read_bytes() for file in out.iterdir()}


def test_beams_local_runner_writes_the_bytes_of_our_processes(sample_data, tmp_path):
    pytest.importorskip("apache_beam", reason="Apache Beam is an extra with an environment of its own")
    ours = prepare(sample_data, tmp_path / "ours")
    assert sum("array_record" in name for name in ours) > 5
    assert prepare(sample_data, tmp_path / "beam", runner="beam") == ours


def test_without_beam_the_runner_is_refused_with_the_way_out(sample_data, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"runner=beam needs Apache Beam; pip install 'ecommerce_vl\[beam\]'"):
        prepare(sample_data, tmp_path / "out", runner="beam")


def test_shards_hold_all_rows_and_empty_splits_have_none():
    expected = shards_of({"train": 9, "validation": 0, "test": 4}, rows_per_shard=4)
    assert expected == [
        Shard("train", 0, 3, 4),
        Shard("train", 1, 3, 4),
        Shard("train", 2, 3, 1),
        Shard("test", 0, 1, 4),
    ]
