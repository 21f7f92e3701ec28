"""A refresh equals a full export of the new data, embeds only what changed, and its rows add up."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from catalog import export, write_catalog
from fake_encoder import FakeEncoder

from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting.reader import ExportedVectors
from ecommerce_vl.exporting.refresh import Count, RefreshingEncoder, count, require_other_folder


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def edited(rows):
    """SKU-06 has another title, SKU-07 another picture, SKU-08 another brand, SKU-09 is gone, SKU-20 is new."""
    by_id = {row["id"]: row for row in rows}
    by_id["SKU-06"]["title"] = "green shoe 6"
    by_id["SKU-07"]["image_link"] = "4.jpg"
    by_id["SKU-08"]["brand"] = "Other"
    del by_id["SKU-09"]
    return [by_id["SKU-03"] | {"id": "SKU-20", "title": "blue bag 20"}, *by_id.values()]  # all rows move by one


@pytest.fixture(scope="module")
def later(tmp_path_factory) -> Path:
    return write_catalog(tmp_path_factory.mktemp("later") / "feed", edited)


@pytest.fixture(scope="module")
def whole(later, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "vectors"
    export(FakeEncoder(), later, out)
    return out


def refreshed(encoder, exported):
    return RefreshingEncoder(encoder, ExportedVectors(exported))


def test_it_equals_a_full_export_and_embeds_only_what_changed(exported, later, whole, tmp_path):
    encoder = FakeEncoder()
    export(refreshed(encoder, exported), later, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole)
    # SKU-02 has no vector to keep: nothing of it can be read.
    assert sorted(encoder.seen) == ["SKU-02", "SKU-06", "SKU-07", "SKU-20"]
    found = count(ExportedVectors(exported), ExportedVectors(tmp_path / "out"))
    assert found == Count(kept=16, changed=2, new=1, gone=1)
    assert found.kept + found.changed + found.new == len(ExportedVectors(whole))
    assert found.kept + found.changed + found.gone == len(ExportedVectors(exported))


def test_killed_and_resumed_it_ends_with_the_same_bytes_and_counts(exported, later, whole, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        export(refreshed(FakeEncoder(fail_after=1), exported), later, out)
    assert not (out / "_SUCCESS").exists()
    export(refreshed(FakeEncoder(), exported), later, out)
    assert contents(out) == contents(whole)
    assert count(ExportedVectors(exported), ExportedVectors(out)) == Count(kept=16, changed=2, new=1, gone=1)


def test_an_unchanged_catalog_embeds_what_has_no_vector_alone(exported, catalog, tmp_path):
    encoder = FakeEncoder()
    export(refreshed(encoder, exported), catalog, tmp_path / "out")
    assert encoder.seen == ["SKU-02"] and contents(tmp_path / "out") == contents(exported)


def test_absent_views_stay_absent(exported):
    encoder = refreshed(FakeEncoder(fail_after=0), exported)
    vectors = encoder.embed_views([{"id": "SKU-01", "title": "green dress 1", "images": []}])
    assert (
        np.isnan(vectors["image"]).all() and vectors["text"].tolist() == [[0, 1, 0, 0]] == vectors["product"].tolist()
    )
    assert encoder.batch_size == 2 and encoder.space_id == "space-one"


def test_another_space_damage_and_its_own_folder_are_refused(exported, tmp_path):
    with pytest.raises(
        UserError, match=r"space space-one .* the model is of space space-two; export without --refresh"
    ):
        refreshed(FakeEncoder(space_id="space-two"), exported)
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    (copy / "part-00001-of-00005.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"damaged or missing .*part-00001"):
        refreshed(FakeEncoder(), copy)
    with pytest.raises(UserError, match="is the folder of --out too"):
        require_other_folder(copy, tmp_path / "." / "copy")
