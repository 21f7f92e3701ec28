"""The template puts the title first, drops only when given a generator, and knows its fields."""

import dataclasses

import numpy as np
import pytest

from ecommerce_vl.data.text import FIELDS, TextTemplate

RECORD = {name: f"my {name}" for name in FIELDS} | {"title": "long red dress", "product_type": "A > B > Dresses"}
TEMPLATE = TextTemplate(fields=("category", "brand", "color"), field_dropout=0.5, word_dropout=0.5)


def test_the_title_comes_first_then_the_fields_in_order():
    assert TEMPLATE.enriched(RECORD) == "long red dress [SEP] Dresses [SEP] brand my brand [SEP] color my color"
    assert TEMPLATE.enriched(RECORD | {"brand": ""}) == "long red dress [SEP] Dresses [SEP] color my color"
    assert TEMPLATE.enriched(RECORD | {"title": ""}) == ""


def test_a_tokenizer_without_the_token_has_its_own_separator():
    comma = dataclasses.replace(TEMPLATE, separator=", ")
    assert comma.enriched(RECORD) == "long red dress, Dresses, brand my brand, color my color"


def test_dropout_is_random_with_a_generator_and_never_without():
    assert len({TEMPLATE.enriched(RECORD) for _ in range(20)}) == 1
    texts = [TEMPLATE.enriched(RECORD, rng=np.random.default_rng(seed)) for seed in range(200)]
    assert texts == [TEMPLATE.enriched(RECORD, rng=np.random.default_rng(seed)) for seed in range(200)]
    titles = {text.split(" [SEP] ")[0] for text in texts}
    assert "red" in titles
    assert all(title and set(title.split()) <= {"long", "red", "dress"} for title in titles)
    with_brand = sum("brand my brand" in text for text in texts)
    assert 60 < with_brand < 140


def test_dropout_of_one_leaves_the_title():
    bare = TextTemplate(fields=FIELDS, field_dropout=1.0, word_dropout=1.0)
    assert bare.enriched(RECORD, rng=np.random.default_rng(0)) == "long red dress"


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match=r"has colour; expected some of category, brand"):
        TextTemplate(fields=("colour",), field_dropout=0.0)
