"""Baselines are computed once, when asked for, and have a row for every product."""

import numpy as np
import pytest

from ecommerce_vl.evaluation import baselines, embedding
from ecommerce_vl.evaluation.context import BASELINES, Context
from tests.evaluation.conftest import WordEncoder, records


def test_every_method_of_a_view_answers_for_every_product(splits, known):
    context = Context(**splits, **known)
    assert context.methods("image") == ("", "random", "colour_histogram", "colour_edges", "untrained")
    assert context.methods("text", without=("random",)) == ("", "tfidf", "untrained")
    for view in ("image", "text", "product"):
        for method in context.methods(view):
            for split, products in splits.items():
                assert context.features(method, split, view=view).shape[0] == len(products)
            assert method in ("", *BASELINES)
    rows = np.flatnonzero(splits["test"].present("image"))
    assert not context.lacks("colour_edges", ("test", "image", rows))
    every = ("test", "image", np.arange(60))
    assert context.lacks("colour_edges", every, every).startswith(f"{60 - len(rows)} products that the model has")
    with pytest.raises(ValueError, match="unknown method 'bm25'"):
        context.features("bm25", "test", view="text")


def test_a_baseline_is_computed_once_and_only_when_asked_for(splits, known, monkeypatch):
    calls = []

    class Counting(WordEncoder):
        def embed_views(self, chunk):
            calls.append(len(chunk))
            return super().embed_views(chunk)

    context = Context(**splits, **known | {"others": {"untrained": Counting(seed=9)}})
    assert not calls
    first = context.features("untrained", "validation", view="text")
    again = context.features("untrained", "validation", view="image")
    assert sum(calls) == 40 and len(first) == len(again)


def test_random_vectors_differ_by_split_and_view_and_not_by_call(splits):
    context = Context(**splits)
    one = context.features("random", "test", view="image")
    np.testing.assert_array_equal(one, Context(**splits).features("random", "test", view="image"))
    assert not np.allclose(one, context.features("random", "test", view="text"))
    assert not context.has_words("random") and not context.has_words("") and context.has_words("tfidf")
    assert context.words("tfidf", ["red cup", "zzz"]).getnnz(axis=1).tolist() == [3, 0]
    assert one.shape[1] == baselines.RANDOM_DIMENSION


def test_records_become_products_with_their_attributes_and_prices(splits):
    given = records(splits["test"])[:3]
    given[0] |= {"color": "red", "brand": "Vento", "price": "66.36 EUR", "attributes": {"heel": 4.0, "use": ["run"]}}
    given[1] |= {"price": "on request"}
    products = embedding.embed(WordEncoder(), given, progress=lambda done, total: None)
    assert products.attributes == [{"color": "red", "heel": 4.0, "use": ["run"]}, {}, {}]
    assert products.brands == ["Vento", "", ""]
    np.testing.assert_array_equal(products.prices, [66.36, np.nan, np.nan])
    assert products.take([1, 0]).brands == ["", "Vento"] and products.take([0]).prices.tolist() == [66.36]
