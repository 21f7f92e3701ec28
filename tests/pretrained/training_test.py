"""Runs that begin from weights: what is given, what stays, and a resume without the folder."""

import copy
import shutil
from functools import partial

import numpy as np
import pytest

import ecommerce_vl as vl
from ecommerce_vl import weights
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.initial import kept
from ecommerce_vl.training.loop import FINISHED, train


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
