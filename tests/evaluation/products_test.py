"""Absence is NaN, columns stay aligned, and unknown keys relate nothing."""

from dataclasses import replace

import numpy as np
import pytest


def test_a_missing_modality_is_absent_and_never_a_zero_vector(splits):
    test = splits["test"]
    assert not test.present("image")[3] and test.present("image")[4]
    assert test.present("product").all()
    assert not replace(test, vectors={}).present("text").any()
    zeros = test.vectors["text"].copy()
    zeros[0] = 0.0
    with pytest.raises(ValueError, match=r"not unit vectors \(first: 't000', norm 0.0000\)"):
        replace(test, vectors={"text": zeros})


def test_every_column_must_have_the_length_of_the_ids_and_ids_must_be_unique(splits):
    test = splits["test"]
    with pytest.raises(ValueError, match=r"'titles': 59, 'vectors\[image\]': 1"):
        replace(test, titles=test.titles[1:], vectors={"image": test.vectors["image"][:1]})
    with pytest.raises(ValueError, match="repeated, for example \\['t001'\\]"):
        replace(test, ids=["t001", *test.ids[1:]])


def test_take_keeps_all_columns_aligned(splits):
    part = splits["test"].take([4, 0])
    assert part.ids == ["t004", "t000"] and part.titles[0] == splits["test"].titles[4]
    assert part.catalog_keys.tolist() == [2, 0]
    np.testing.assert_array_equal(part.vectors["product"], splits["test"].vectors["product"][[4, 0]])
    assert splits["test"].take(splits["test"].present("image")).present("image").all()


def test_unknown_keys_relate_a_product_to_nothing_but_itself(splits):
    part = replace(splits["test"].take(range(5)), catalog_keys=np.array([-1, 7, -1, 7, 2]))
    labels = part.labels("catalog")
    assert (labels[:, None] == labels).tolist() == (
        np.eye(5, dtype=bool) | (np.array([0, 1, 0, 1, 0], bool)[:, None] & np.array([0, 1, 0, 1, 0], bool))
    ).tolist()
    paths = replace(part, category_paths=["", "A", "", "A", "B"]).labels("category")
    assert len(set(paths.tolist())) == 4 and paths[1] == paths[3]


def test_components_join_both_relations_transitively(splits):
    part = replace(
        splits["test"].take(range(6)),
        catalog_keys=np.array([0, 0, 1, -1, -1, -1]),
        group_keys=np.array([-1, 5, 5, -1, 9, 9]),
    )
    components = part.components()
    assert len({components[0], components[1], components[2]}) == 1
    assert components[4] == components[5]
    assert len(set(components.tolist())) == 3
