"""Graphs and cuts against brute force; thresholds from validation; everybody counts."""

from dataclasses import replace

import numpy as np
import pytest

from ecommerce_vl.evaluation import clustering
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_mutual_neighbours_are_those_of_brute_force(monkeypatch):
    monkeypatch.setattr(clustering, "NEIGHBOURS", 3)
    vectors = unit(np.random.default_rng(0).normal(size=(30, 4)))
    left, right, scores = clustering.mutual_neighbours(vectors, ids=[f"{i:02d}" for i in range(30)])
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(cosine, -9)
    near = [set(np.argsort(-row)[:3]) for row in cosine]
    expected = {(i, j) for i in range(30) for j in near[i] if i < j and i in near[j]}
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == expected
    np.testing.assert_allclose(scores, cosine[left, right], atol=1e-6)


def test_components_join_what_a_chain_of_edges_joins():
    edges = (np.array([0, 1, 3]), np.array([1, 2, 4]), np.array([0.9, 0.5, 0.7]))
    assert len(set(clustering.components(edges, count=5, threshold=0.6))) == 3
    labels = clustering.components(edges, count=5, threshold=0.5)
    assert labels[0] == labels[1] == labels[2] != labels[3] == labels[4]


def test_a_cut_holds_no_cluster_above_the_limit(monkeypatch):
    monkeypatch.setattr(clustering, "MAX_MEMBERS", 5)
    angles = np.concatenate([np.linspace(0, 0.3, 12), np.linspace(2, 2.05, 4)])
    merges = clustering.linkage(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    labels = clustering.cut(merges, distance=0.5)
    assert np.bincount(labels).max() <= 5 and len(set(labels[12:])) == 1
    assert not set(labels[:12]) & set(labels[12:])


def test_spherical_kmeans_finds_separate_groups():
    random = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 10)
    vectors = unit(np.eye(8)[truth] + 0.05 * random.normal(size=(40, 8)))
    labels = clustering.spherical_kmeans(vectors, clusters=4, seed=0)
    assert len(set(zip(truth.tolist(), labels.tolist(), strict=True))) == 4


def test_the_threshold_is_the_best_of_validation_and_the_highest_in_a_tie():
    truth = np.array([0, 0, 1, 1])
    partitions = {0.9: np.arange(4), 0.8: truth, 0.7: truth, 0.1: np.zeros(4, int)}
    threshold, labels = clustering.best_cut(partitions.get, candidates=np.array(list(partitions)), truth=truth)
    assert threshold == 0.8
    np.testing.assert_array_equal(labels, truth)


def test_every_way_is_measured_and_clear_groups_are_found(splits, known):
    clear = {}
    for name, products in splits.items():
        axes = unit(np.random.default_rng(len(products)).normal(size=(len(products), 16)))
        own = axes[products.catalog_keys]
        vectors = {"product": own, "text": np.where(np.isnan(products.vectors["text"]), np.nan, own)}
        clear[name] = replace(products, vectors=vectors)
    results = Results(products=clear["test"])
    clustering.run(Context(**clear, **known), results)
    for way in ("mutual_neighbours", "average_linkage"):
        entry = results.metrics[f"clustering/same_product/product/{way}/pair_f1"]
        assert entry["value"] == entry["low"] == entry["high"] == 1.0
        assert entry["sizes"] == {"2": 30} and entry["n"] == 60 and 0 < entry["threshold"] <= 1.0
    assert results.metrics["clustering/same_product/product/mutual_neighbours/ami"]["value"] == pytest.approx(1.0)
    assert results.metrics["clustering/same_product/product/mutual_neighbours/over_merged"]["low"] is None
    assert results.metrics["clustering/same_product/product/kmeans/bcubed_f1"]["value"] > 0.8
    assert results.metrics["clustering/same_style/product/mutual_neighbours/split"]["value"] >= 0.8
    assert results.metrics["clustering/same_product/product/random/mutual_neighbours/pair_f1"]["value"] < 0.3
    # Every fifth or so lacks its title; its partner is alone, and both are counted where they have a vector.
    text = results.metrics["clustering/same_product/text/mutual_neighbours/pair_f1"]
    assert text["n"] == int(clear["test"].present("text").sum()) and text["singletons"] > 0
    assert "no two test products" in results.skipped["clustering/same_style/image"]
    figure = results.figures["clustering/same_product/product/mutual_neighbours"]
    assert len(figure.rows) == 60
