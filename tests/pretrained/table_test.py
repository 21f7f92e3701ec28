"""Tables: all mistakes at once, every tensor used or named, positions resampled."""

import numpy as np
import pytest

from ecommerce_vl.errors import UserError
from ecommerce_vl.models.pretrained import bert, positions
from ecommerce_vl.models.pretrained.table import Row, convert, dense, first_rows, under
from ecommerce_vl.weights import Folder, named


def two_layers(**changed):
    tensors = {f"layer.{i}.{name}": np.full(shape, i, np.float32) for i in (0, 1) for name, shape in SHAPES.items()}
    return tensors | changed


SHAPES = {"d.weight": (3, 2), "d.bias": (3,)}
ROWS = under("blocks/", dense("up", "d"), "layer.{}.")
OURS = {"blocks/up/kernel": (2, 2, 3), "blocks/up/bias": (2, 3)}


def test_layers_are_stacked_and_kernels_turned_and_the_rest_is_named():
    found, unused = convert(ROWS, two_layers(head=np.zeros(1)), OURS, source="X")
    assert {path: array.shape for path, array in found.items()} == OURS
    assert found["blocks/up/kernel"][1].min() == 1 and found["blocks/up/kernel"].flags["C_CONTIGUOUS"]
    assert unused == ["head"]


def test_all_mistakes_come_together():
    tensors = two_layers() | {"layer.2.d.bias": np.zeros(3)}
    tensors["layer.0.d.weight"] = tensors["layer.1.d.weight"] = np.zeros((4, 2), np.float32)
    del tensors["layer.1.d.bias"]
    with pytest.raises(UserError) as error:
        convert(ROWS, tensors, OURS | {"token": (5, 2)}, source="FOLDER")
    for mistake in (
        "the weights of FOLDER do not fit",
        "layer.1.d.bias is missing",
        "has shape (2, 2, 4), expected (2, 2, 3)",
        "token of this model is not in the source",
        "layer.2.d.bias is of a layer that this model lacks",
    ):
        assert mistake in str(error.value)


def test_tables_of_words_are_cut_but_not_made_up():
    row = (Row("token", "t", fit=first_rows),)
    found, _ = convert(row, {"t": np.arange(8.0).reshape(4, 2)}, {"token": (3, 2)}, source="X")
    np.testing.assert_array_equal(found["token"], np.arange(6.0).reshape(3, 2))
    with pytest.raises(UserError, match=r"t has shape \(4, 2\), expected \(5, 2\)"):
        convert(row, {"t": np.zeros((4, 2))}, {"token": (5, 2)}, source="X")


@pytest.mark.parametrize("method", [positions.bicubic, positions.bilinear])
def test_resampling_keeps_constants_and_special_positions(method):
    fit = positions.resampled(method, num_special=1)
    table = np.concatenate([np.full((1, 2), 9.0), np.ones((9, 2))]).astype(np.float32)
    np.testing.assert_array_equal(fit(table, (10, 2)), table)
    for side in (2, 5):
        np.testing.assert_allclose(fit(table, (1 + side**2, 2)), [[9, 9]] + [[1, 1]] * side**2, atol=1e-6)


def test_bilinear_halves_by_a_triangle_over_four():
    """Weights 1, 3, 3, 1 over 8 inside, renormalised at the edge: torch's antialias=True."""
    np.testing.assert_allclose(positions.bilinear(8, 4)[1], [0, 1 / 8, 3 / 8, 3 / 8, 1 / 8, 0, 0, 0], atol=1e-12)


def test_folders_that_cannot_be_used_are_named(write_folder, tmp_path):
    folder = write_folder("bert")
    with pytest.raises(UserError, match="which has no such part; it has: text, joint"):
        Folder(folder).part("image")
    with pytest.raises(UserError, match="there is no folder 'nowhere/at/all'"):
        Folder("nowhere/at/all")
    with pytest.raises(UserError, match="cannot read .*config.json"):
        Folder(tmp_path)
    with pytest.raises(UserError, match="expected it alone"):
        named({"init": {"dual": "a", "text": "b"}})
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="download it again"):
        Folder(folder).tensors()


def test_the_joint_table_fits_a_stack_named_transformer_blocks(write_folder):
    folder = Folder(write_folder("bert"))
    shapes = {row.ours: None for row in bert.JOINT}
    assert "transformer/blocks/attn/query/kernel" in shapes and "text_position" in shapes
    position = next(row for row in bert.JOINT if row.ours == "text_position")
    tensors = folder.tensors()
    found, _ = convert([position], tensors, {"text_position": (7, 16)}, source="X")
    segment = tensors["embeddings.token_type_embeddings.weight"][0]
    expected = tensors["embeddings.position_embeddings.weight"][:7] + segment
    np.testing.assert_allclose(found["text_position"], expected, atol=1e-6)
