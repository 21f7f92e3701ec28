"""Runs that begin from weights: what is given, what stays, and a resume without the folder."""

import copy
import shutil
from functools import partial

import jax
import numpy as np
import pytest
import small

import ecommerce_vl as vl
from configs import eclip
from ecommerce_vl import weights
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.initial import kept, overlay
from ecommerce_vl.training.loop import FINISHED, train
from ecommerce_vl.training.sharding import by_path
from ecommerce_vl.training.state import init_params


def run(config, workdir):
    config, lines = weights.resolve(config, workdir), []
    initial = partial(weights.initial, config)
    assert train(config, workdir, build_system=build_system, initial=initial, log=lines.append) == FINISHED
    return lines


@pytest.mark.slow
def test_a_locked_tower_stays_the_given_one_and_the_run_needs_no_folder_later(write_folder, tiny_config, tmp_path):
    folder, workdir = write_folder("bert"), tmp_path / "run"
    config = copy.deepcopy(tiny_config)
    config["init"]["text"] = str(folder)
    config["text"]["max_length"] = 12
    config["optimizer"] |= {"name": "adamw", "locked": ("text/",), "layer_decay": 0.8}
    config["total_samples"] = 32 * 4
    lines = run(config, workdir)
    assert any(line.startswith("init     text: not used are pooler") for line in lines)
    shutil.rmtree(folder)
    assert any(line.startswith("resume   step 4") for line in run(config, workdir))
    encoder, given = vl.load(workdir), kept(workdir)
    token = np.asarray(encoder.params["text"]["token"])
    np.testing.assert_array_equal(token, given["text/token"])
    begun = encoder.untrained().params
    np.testing.assert_array_equal(begun["text"]["token"], token)
    moved = np.asarray(encoder.params["image"]["position"]) - np.asarray(begun["image"]["position"])
    assert np.abs(moved).max() > 0


@pytest.mark.parametrize("family", [pytest.param("clip", marks=pytest.mark.slow), "siglip"])
def test_a_sigmoid_loss_begins_with_the_bias_of_the_folder_where_it_has_one(family, write_folder):
    folder = write_folder(family)
    config = eclip.get_config("tiny")
    config.init.dual, config.loss.objective, config.text.max_length = str(folder), "sigmoid", small.LENGTH
    config.image.size = 16
    config, lines = weights.resolve(config.to_dict()), []
    system = build_system(config, vocab_size=config["text"]["vocab_size"])
    params = init_params(system, seed=0)
    found = weights.initial(config, {path: leaf.shape for path, leaf in by_path(params).items()}, log=lines.append)
    params = overlay(params, found)
    published = weights.Folder(folder).tensors().get("logit_bias", np.array(-10.0))
    assert params["logit_bias"] == pytest.approx(float(published.reshape(())))
    assert ("logit_bias" in " ".join(lines)) == (family == "clip"), "what begins anew is told"
    back = weights.restored(config, jax.tree.map(lambda x: x + 1, params))[1]
    assert "logit_bias" not in back or back["logit_bias"] == pytest.approx(published + 1)
