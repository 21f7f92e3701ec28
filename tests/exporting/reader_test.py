"""An export read back: vectors, pictures, and every reason to refuse a folder."""

import json
import shutil

import numpy as np
import pytest

from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting.reader import ExportedVectors


def test_views_hold_only_products_that_have_them(exported):
    vectors = ExportedVectors(exported)
    assert (len(vectors), vectors.dim, vectors.space_id) == (19, 4, "space-one")
    for view, absent in (("product", None), ("image", "SKU-01"), ("text", "SKU-00")):
        ids, rows = vectors.view(view)
        assert rows.shape == (len(ids), 4) and rows.dtype == np.float32
        assert set(ids) == {f"SKU-{number:02d}" for number in range(20)} - {"SKU-02", absent}
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    ids, rows = vectors.view("text")
    assert rows[ids.index("SKU-06")].tolist() == [0, 0, 1, 0]


def test_cards_come_in_the_order_asked(exported):
    cards = ExportedVectors(exported).cards(["SKU-19", "SKU-01", "SKU-05", "nobody"])
    assert [card.title for card in cards] == ["yellow dress 19", "green dress 1", "green dress 5", ""]
    assert [card.thumbnail is not None for card in cards] == [True, False, True, False]
    assert (cards[2].adult, cards[2].brand, cards[2].category) == ("yes", "Acme", "Apparel > Dresses")


def test_damage_is_named(exported, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(exported, out)
    ExportedVectors(out).verify()
    (out / "part-00002-of-00005.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"part-00002-of-00005\.parquet"):
        ExportedVectors(out).verify()
    with pytest.raises(UserError, match="cannot be read"):
        ExportedVectors(out).view("product")
    shutil.copy(out / "part-00000-of-00005.parquet", out / "part-00002-of-00005.parquet")
    with pytest.raises(UserError, match="holds 3 rows, the manifest says 4"):
        ExportedVectors(out).view("product")


def test_only_a_complete_export_opens(exported, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        ExportedVectors(tmp_path / "nowhere")
    out = tmp_path / "copy"
    shutil.copytree(exported, out)
    (out / "_SUCCESS").unlink()
    with pytest.raises(UserError, match="_SUCCESS is missing"):
        ExportedVectors(out)
    (out / "_SUCCESS").touch()
    manifest = json.loads((out / "manifest.json").read_text()) | {"schema_version": 9}
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="schema version 9"):
        ExportedVectors(out)


def test_another_space_is_refused_by_both_names(exported):
    vectors = ExportedVectors(exported)
    vectors.require_space("space-one", owner="the model")
    with pytest.raises(UserError, match=r"space space-one \(fake/tiny step 7\), but the model is of space other"):
        vectors.require_space("other", owner="the model")
