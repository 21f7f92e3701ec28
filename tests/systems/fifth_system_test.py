"""A fifth system is one file and one config: a toy is trained, evaluated, exported and searched by the doors."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs import quickstart
from tests.programs import environment

ROOT = Path(__file__).parents[2]
# A bag of words against the mean colours of a picture's cells.
SYSTEM = """
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl import systems
from ecommerce_vl.losses.candidates import Candidates, Rule
from ecommerce_vl.losses.contrastive import candidate_loss
from ecommerce_vl.models.dual import unit
from ecommerce_vl.models.transformer import embedding, linear


class Bags(nnx.Module):
    def __init__(self, vocab_size, dim, rngs):
        self.token = embedding(vocab_size, dim, rngs=rngs)
        self.projection = linear(48, dim, dtype=jnp.float32, rngs=rngs)


class Toy:
    views, fusion, shown = ("image", "text", "product"), "norm(image + text)", (("i→t", "row_top1", "6.1%"),)

    def __init__(self, config, *, vocab_size, special_ids):
        self.vocab_size, self.dim = vocab_size, config["embed_dim"]

    build = lambda self, rngs: Bags(self.vocab_size, self.dim, rngs)
    make_extra = lambda self: {}
    constrain = lambda self, params: params

    def encode(self, model, batch, rng):
        B, side = batch["image"].shape[:2]
        cells = batch["image"].astype(jnp.float32).reshape(B, 4, side // 4, 4, side // 4, 3).mean((2, 4)) / 255 - 0.5
        words = model.token[...][batch["text_ids"]] * batch["text_mask"][:, :, None]
        return {"image": unit(model.projection(cells.reshape(B, 48))), "text": unit(words.sum(1))}

    def contrast(self, model, encoded, batch, extra, mesh):
        valid = batch["valid"] & batch["has_image"] & batch["has_text"]
        texts, rule = Candidates(encoded["text"], batch["catalog_key"], valid), Rule(label_mode="catalog", alpha=0.5)
        loss, metrics = candidate_loss(encoded["image"], texts, jnp.log(10.0), rule=rule, mesh=mesh)
        return loss, metrics, extra

    def embed(self, model, batch, views):
        of = self.encode(model, batch, None)
        of["product"] = unit(of["image"] * batch["has_image"][:, None] + of["text"] * batch["has_text"][:, None])
        return {view: of[view] for view in views}


systems.SYSTEMS["toy"] = Toy
"""


@pytest.mark.slow
def test_doors_train_evaluate_export_and_search_a_system_that_they_do_not_know(sample_data, tmp_path):
    (tmp_path / "toy.py").write_text(SYSTEM, encoding="utf-8")
    config = quickstart.get_config()
    config.system, config.data.num_workers, config.evaluate.every_steps = "toy", 0, 0
    config.total_samples, config.batch_size, config.image.size, config.log_every = 32 * 20, 32, 32, 20
    config.optimizer.name = "adamw"
    source = f"import ml_collections\nget_config = lambda: ml_collections.ConfigDict({config.to_dict()!r})\n"
    (tmp_path / "toy_config.py").write_text(source, encoding="utf-8")

    def door(verb, *args):
        code = (
            f"import runpy, sys, toy; sys.argv[0] = {verb!r}; runpy.run_module('ecommerce_vl.{verb}', {{}}, '__main__')"
        )
        place = environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, env=place)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run, data, vectors = (f"--{name}={path}" for name, path in (
        ("workdir", tmp_path / "run"), ("data", sample_data), ("vectors", tmp_path / "vectors"))
    )  # fmt: skip
    printed = door("train", f"--config={tmp_path / 'toy_config.py'}", run, f"--config.data.path={sample_data}")
    losses = [json.loads(line).get("loss") for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert "toy · " in printed and losses[-1] < losses[0]
    door("evaluate", run, data, f"--out={tmp_path / 'eval'}")
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert metrics["image_text/i2t/mrr"]["n"] > 0 and metrics["category/text/knn/top1"]["n"] > 0
    door("export", run, data, f"--out={tmp_path / 'vectors'}")
    shown = door("search", run, vectors, "--query=red cotton dress", "--k=7")
    assert len(re.findall(r"^ +\d+ +-?\d\.\d+ +P\d+ ", shown, flags=re.MULTILINE)) == 7, shown
