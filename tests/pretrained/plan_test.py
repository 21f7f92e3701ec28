"""The plan of a run that begins from weights is that of their architecture."""

import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from configs import siglip_finetune
from ecommerce_vl import weights
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.state import define_model

ROOT = Path(__file__).parents[2]


def size_of(family, golden):
    """Its parameters without the bias of a sigmoid loss."""
    return sum(math.prod(shape) for shape in golden(family)["shapes"].values()) - 1


def test_a_config_without_data_has_the_sizes_of_the_folder(write_folder, golden):
    config = siglip_finetune.get_config()
    config.init.dual, config.image.size, config.text.max_length = str(write_folder("siglip")), 16, 12
    resolved = weights.resolve(config.to_dict())
    assert (resolved["image"]["width"], resolved["text"]["vocab_size"]) == (16, 60)
    system = build_system(resolved, vocab_size=resolved["text"]["vocab_size"], special_ids={})
    _, params = define_model(system)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size_of("siglip", golden)


@pytest.mark.slow
def test_the_door_plans_them(write_folder, golden, tmp_path):
    command = [
        sys.executable, "-m", "ecommerce_vl.plan", "--config=configs/siglip_finetune.py",
        f"--config.init.dual={write_folder('siglip')}", "--config.image.size=16", "--config.text.max_length=12",
        "--config.batch_size=8", "--config.total_samples=16", "--topology=local:2", "--nosearch",
        f"--out={tmp_path}/plan.json",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["per_chip"]["parameters"] == 4 * size_of("siglip", golden)
