"""The export as files: every row accounted for, values by hand, the same bytes after a kill."""

import hashlib
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalog import export, jpeg
from fake_encoder import FakeEncoder

from ecommerce_vl.errors import UserError


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def rows_of(folder):
    tables = [pq.read_table(file) for file in sorted(folder.glob("part-*.parquet"))]
    return {row["product_id"]: row for row in pa.concat_tables(tables).to_pylist()}


def test_columns_are_those_of_the_contract(exported):
    schema = pq.read_schema(exported / "part-00000-of-00005.parquet")
    vector = pa.list_(pa.float32(), 4)
    assert [(field.name, field.type) for field in schema] == [
        ("product_id", pa.string()), ("item_group_id", pa.string()), ("catalog_id", pa.string()),
        ("embedding", vector), ("embedding_image", vector), ("embedding_text", vector),
        ("modality_mask", pa.int8()), ("n_images", pa.int16()), ("input_digest", pa.binary(16)),
        ("split", pa.string()),
    ]  # fmt: skip
    assert schema.metadata[b"space_id"] == b"space-one"


def test_values_are_those_computed_by_hand(exported, catalog):
    rows = rows_of(exported)
    assert len(rows) == 19 and "SKU-02" not in rows
    no_title, no_picture, both = rows["SKU-00"], rows["SKU-01"], rows["SKU-03"]
    assert (no_title["modality_mask"], no_title["n_images"], no_title["embedding_text"]) == (1, 1, None)
    assert no_title["embedding"] == no_title["embedding_image"] == [1, 0, 0, 0]
    assert (no_picture["modality_mask"], no_picture["n_images"], no_picture["embedding_image"]) == (2, 0, None)
    assert no_picture["embedding"] == no_picture["embedding_text"] == [0, 1, 0, 0]
    # A yellow picture (1,1,0)/√2, and the words red and blue (1,0,1)/√2: their sum is (2,1,1)/√2, unit (2,1,1)/√6.
    assert both["modality_mask"] == 3
    np.testing.assert_allclose(both["embedding"], np.array([2, 1, 1, 0]) / np.sqrt(6), atol=1e-6)
    assert no_title["item_group_id"] is None and both["item_group_id"] == "G0" and both["catalog_id"] is None
    assert [rows[name]["split"] for name in ("SKU-03", "SKU-12", "SKU-19")] == ["train", "validation", "test"]


def test_the_digest_is_of_title_and_picture(exported):
    title = b"blue dress 6"
    expected = hashlib.sha256(len(title).to_bytes(8, "big") + title + jpeg("blue")).digest()[:16]
    assert rows_of(exported)["SKU-06"]["input_digest"] == expected


def test_what_cannot_be_embedded_is_a_counted_reject(exported):
    rejects = pq.read_table(exported / "rejects.parquet").to_pylist()
    detail = "no title, and the picture cannot be read"
    assert rejects == [{"id": "SKU-02", "reason": "no_usable_modality", "detail": detail}]
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["rejects"] == {"count": 1, "by_reason": {"no_usable_modality": 1}}
    assert manifest["rows"] == 19 == sum(shard["rows"] for shard in manifest["shards"])


def test_the_manifest_describes_the_files(exported, catalog):
    manifest = json.loads((exported / "manifest.json").read_text())
    for shard in manifest["shards"]:
        assert hashlib.sha256((exported / shard["path"]).read_bytes()).hexdigest() == shard["sha256"]
    assert [shard["rows"] for shard in manifest["shards"]] == [3, 4, 4, 4, 4]
    assert (manifest["shards"][0]["min_id"], manifest["shards"][0]["max_id"]) == ("SKU-00", "SKU-03")
    assert manifest["model"] == {"name": "fake/tiny", "digest": "d" * 64, "step": 7, "trained_on": None}
    assert (manifest["dims"], manifest["normalized"], manifest["metric"]) == (4, True, "ip")
    assert manifest["data"]["name"] == "data" and str(catalog) not in json.dumps(manifest)
    rows = rows_of(exported)
    assert len(manifest["golden"]) == 8
    for golden in manifest["golden"]:
        assert golden["first8"] == rows[golden["product_id"]]["embedding"] and golden["norm"] == 1.0
    # Five colours and mixtures: red x5, green x5, blue x4, yellow x4 and one mixture are 5 distinct of 19.
    assert manifest["health"]["duplicate_vector_rate"] == round(1 - 5 / 19, 6)
    assert (manifest["health"]["with_image"], manifest["health"]["with_text"]) == (18, 18)
    vectors = np.array([row["embedding"] for row in rows.values()])
    cosines = (vectors @ vectors.T)[~np.eye(19, dtype=bool)]
    assert manifest["health"]["mean_pairwise_cosine"] == pytest.approx(cosines.mean(), abs=1e-6)


def test_two_exports_are_byte_identical(exported, catalog, tmp_path):
    export(FakeEncoder(), catalog, tmp_path / "again")
    assert contents(exported) == contents(tmp_path / "again")


@pytest.mark.parametrize("calls", range(5))
def test_killed_between_parts_it_ends_with_the_same_bytes(exported, catalog, tmp_path, calls):
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        export(FakeEncoder(fail_after=calls), catalog, out)
    assert not (out / "_SUCCESS").exists() and len(list(out.glob("part-*.parquet"))) == calls
    lines = []
    export(FakeEncoder(fail_after=5 - calls), catalog, out, log=lines.append)  # makes only what is missing
    assert contents(out) == contents(exported)
    assert lines == ([f"resume   {calls} of 5 parts are already there"] if calls else [])


def test_a_lost_and_a_damaged_part_are_made_again(exported, catalog, tmp_path):
    out = tmp_path / "damaged"
    shutil.copytree(exported, out)
    (out / "part-00001-of-00005.parquet").unlink()
    file = out / "part-00003-of-00005.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    export(FakeEncoder(fail_after=2), catalog, out)
    assert contents(out) == contents(exported)


def test_a_finished_export_has_nothing_to_do(exported, catalog):
    assert export(FakeEncoder(fail_after=0), catalog, exported) is None


def test_another_space_is_refused_unless_overwritten(exported, catalog, tmp_path):
    out = tmp_path / "other"
    shutil.copytree(exported, out)
    with pytest.raises(UserError, match=r"holds vectors of the space space-one, but .* makes space space-two"):
        export(FakeEncoder(space_id="space-two"), catalog, out)
    shutil.rmtree(out / "_receipts")
    with pytest.raises(UserError, match="space-one"):
        export(FakeEncoder(space_id="space-two"), catalog, out)
    assert export(FakeEncoder(space_id="space-two"), catalog, out, overwrite=True)["space_id"] == "space-two"


def test_other_settings_and_unknown_files_are_refused(exported, catalog, tmp_path):
    with pytest.raises(UserError, match=r"split all \(now test\)"):
        export(FakeEncoder(), catalog, exported, split="test")
    (tmp_path / "part-0.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="unknown origin"):
        export(FakeEncoder(), catalog, tmp_path)
    with pytest.raises(UserError, match="is a file"):
        export(FakeEncoder(), catalog, tmp_path / "part-0.parquet")


def test_rows_that_do_not_match_fail(catalog, tmp_path):
    with pytest.raises(RuntimeError, match="expected one row each"):
        export(FakeEncoder(drop_rows=True), catalog, tmp_path / "short")
    assert not (tmp_path / "short" / "_SUCCESS").exists()
    data = tmp_path / "data"
    shutil.copytree(catalog, data)
    index = pq.read_table(data / "index.parquet")
    pq.write_table(index.slice(1), data / "index.parquet")
    with pytest.raises(UserError, match=r"12 in shards, 11 in index.parquet, 12 in prepare.json"):
        export(FakeEncoder(), data, tmp_path / "uneven")
    ids = index["id"].to_pylist()
    place = index.schema.get_field_index("id")
    pq.write_table(index.set_column(place, "id", [[*ids[:-1], ids[0]]]), data / "index.parquet")
    with pytest.raises(UserError, match="'SKU-00' twice"):
        export(FakeEncoder(), data, tmp_path / "twice")
    pq.write_table(index.set_column(place, "id", [[*ids[:-1], "SKU-77"]]), data / "index.parquet")
    with pytest.raises(UserError, match=r"'SKU-19' where index.parquet has 'SKU-77'"):
        export(FakeEncoder(), data, tmp_path / "other")


def test_one_split_without_thumbnails(catalog, tmp_path):
    manifest = export(FakeEncoder(), catalog, tmp_path, split="test", pictures=False)
    assert manifest["rows"] == 4 and manifest["data"]["split"] == "test" and not manifest["thumbnails"]
    shown = pq.read_table(tmp_path / "thumbnails" / "part-00000-of-00001.parquet")
    assert shown["title"].to_pylist()[0] == "red dress 16" and shown["thumbnail"].null_count == 4
