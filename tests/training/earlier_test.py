"""Configs of runs of earlier versions: what was renamed, what is new, and what stays."""

import json

import pytest

from ecommerce_vl.training.earlier import NEW, NEW_OF_PRODUCTS, RENAMED, of_today
from ecommerce_vl.training.workdir import open_workdir, read_config
from tests.shipped import config_of


def take(config, path):
    *parts, name = path.split(".")
    for part in parts:
        config = config[part]
    return config.pop(name)


def put(config, path, value):
    *parts, name = path.split(".")
    for part in parts:
        config = config.setdefault(part, {})
    config[name] = value


@pytest.fixture(params=[("eclip", "tiny"), ("item", "sample"), ("same_style", "sample"), ("query_retrieval", "sample")])
def today(request):
    return json.loads(json.dumps(config_of(*request.param)))


def before(today):
    """The config as it was on 2026-11-29."""
    config = json.loads(json.dumps(today))
    for old, new in RENAMED.items():
        of_system = {"loss_weights": "item", "loss.w_pdc": "same_style", "loss.w_loc": "same_style"}
        if config["system"] == of_system.get(old, "query_retrieval"):
            put(config, old, take(config, new))
    if config["system"] == "same_style":
        del config["weights"]
    for key in (*NEW, *(NEW_OF_PRODUCTS if config["system"] in ("eclip", "item") else [])):
        take(config, key)
    take(config, "optimizer.lr_decay"), take(config, "optimizer.locked_fraction")
    if config["system"] == "eclip":
        take(config, "loss.span"), take(config, "loss.objective")
    return config


def as_it_was_done(today):
    """Today's config with what was done before there was a choice."""
    today["data"]["any_image"] = True
    if today["system"] == "query_retrieval":
        today["weights"]["qpc"] = 0.5  # of the sum of both ways, which was a mean
    return today


def test_an_earlier_config_becomes_one_of_today(today):
    old = before(today)
    assert old != today
    assert of_today(today) == today
    assert of_today(old) == as_it_was_done(today)


def test_an_earlier_run_is_read_and_goes_on(today, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(before(today)))
    expected = as_it_was_done(json.loads(json.dumps(today)))
    assert read_config(tmp_path) == expected
    assert open_workdir(tmp_path, expected, fingerprint="", has_checkpoint=True)
