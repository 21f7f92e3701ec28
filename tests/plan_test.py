"""The door on local devices, and every shipped config compiled for a slice of a pod."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from ecommerce_vl import weights
from ecommerce_vl.planning.report import make_plan
from ecommerce_vl.planning.topology import CHIPS, open_topology, prepare_environment
from tests.shipped import config_of, is_first, training

ROOT = Path(__file__).parents[1]
SLOW_TPU = pytest.mark.skipif(
    not importlib.util.find_spec("libtpu"), reason="libtpu is not installed; pip install 'ecommerce_vl[plan]'"
)


def door(*arguments, timeout=1500):
    return subprocess.run(
        [sys.executable, "-m", "ecommerce_vl.plan", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=timeout,
    )  # fmt: skip


SMALL = (
    "--config=configs/quickstart.py", "--config.image.size=16", "--config.image.patch_size=8",
    "--config.image.width=24", "--config.image.depth=1", "--config.image.stem=patch", "--config.text.width=16",
    "--config.text.depth=1", "--config.text.max_length=8", "--config.text.vocab_size=300", "--config.batch_size=32",
    "--config.optimizer.name=adamw",
)  # fmt: skip


def test_the_door_plans_for_local_devices(tmp_path):
    done = door(*SMALL, "--topology=local:4", f"--out={tmp_path}/plan.json", "--batch=128")
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["topology"] == {"name": "local:4", "chips": 4, "devices": 4}
    assert plan["batch"]["rows_per_device"] == 8 and plan["wanted"]["streams"] == 4
    # Four times the rows, encoded in four streams: memory of the one, and the forward pass twice.
    assert plan["wanted"]["per_chip"]["activations"] < 2 * plan["per_chip"]["activations"]
    assert 4.2 < plan["wanted"]["per_step"]["flops"] / plan["per_step"]["flops"] < 6
    assert plan["per_chip"]["parameters"] > 0 and plan["per_chip"]["peak"] > plan["per_chip"]["parameters"]
    assert plan["collectives"]["all-reduce"]["bytes"] > plan["per_chip"]["parameters"] / 2
    assert plan["blocks"] == [] and "nothing on a device holds the whole batch against itself" in done.stdout
    assert 0 < plan["per_step"]["loss_flops"] < plan["per_step"]["flops"] and "roofline" not in plan
    assert "compile  8 rows a device" in done.stderr and done.stdout.startswith("slice    local:4")


def test_the_door_refuses_in_one_sentence():
    done = door(*SMALL, "--topology=v7:4x4")
    assert done.returncode == 1
    assert done.stderr.startswith("plan: --topology is 'v7:4x4'; expected one of v5e") and done.stderr.count("\n") == 1


def shipped():
    """Every training config, with every argument that it takes, as --config takes it."""
    return [f"configs/{name}.py" + (f":{argument}" if argument else "") for name, argument in training()]


def begun(config, folder):
    """The config with what it begins from: sizes of a published model, or of a run, as files that say no more."""
    init = config["init"]
    if "run" in init:
        init["run"] = str(folder)
        before = config_of("query_retrieval", config["size"].removesuffix("-tuned"))
        (folder / "config.json").write_text(json.dumps(before))
    elif init["dual"]:
        assert init["dual"] == "google/siglip2-base-patch16-224"
        init["dual"] = str(folder)
        blocks = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
        sizes = {"text_config": blocks, "vision_config": {**blocks, "image_size": 224, "patch_size": 16}}
        (folder / "config.json").write_text(json.dumps({"model_type": "siglip", **sizes}))
        words = models.WordLevel({"<pad>": 0, "<unk>": 1} | {str(n): n for n in range(2, 256_000)}, unk_token="<unk>")
        Tokenizer(words).save(str(folder / "tokenizer.json"))
    return weights.resolve(config)


# A slice of every chip in turn; large models where they fit, recipes for small catalogs on the smallest.
SLICES = ("v5e:4x4", "v6e:4x4", "tpu7x:2x2x1", "v5p:2x2x4")
LARGER = {"configs/eclip.py:base": "v5e:8x8", "configs/eclip.py:large": "v5p:4x4x4"}
SMALL_BATCH = 128


PLACES = [
    pytest.param(place, id=shipped()[place], marks=() if is_first(*config) else pytest.mark.size)
    for place, config in enumerate(training())
]


@pytest.mark.pod
@SLOW_TPU
@pytest.mark.parametrize("place", PLACES)
def test_every_shipped_config_compiles_for_a_pod(place, tmp_path):
    name = shipped()[place]
    config = begun(config_of(*training()[place]), tmp_path)
    slice_name = LARGER.get(name, SLICES[place % len(SLICES)])
    slice_name = "v5e:2x2" if config["batch_size"] <= SMALL_BATCH else slice_name
    prepare_environment(slice_name)
    plan = make_plan(config, open_topology(slice_name), batch=None, search=False, say=print)
    assert plan["fits_as_configured"] and plan["per_chip"]["peak"] < plan["per_chip"]["capacity"]
    assert plan["blocks"] == [] or (plan["blocks"] is None and config["batch_size"] <= SMALL_BATCH)
    assert 0 < plan["roofline"]["mfu"] <= 1 and plan["run"]["chip_hours"] > 0
    assert plan["per_step"]["loss_share"] < 0.02 or "base" not in name


@pytest.mark.pod
@SLOW_TPU
def test_the_search_and_the_streams_hold_for_the_real_compiler(tmp_path):
    """The largest rows were compiled and fit, more do not, and a batch beyond them fits in the streams told."""
    done = door(
        *SMALL, "--config.image.size=64", "--config.loss.impl=ring", "--config.loss.chunk_rows=256",
        "--config.batch_size=8192", "--topology=v5e:2x2", "--batch=262144", f"--out={tmp_path}/plan.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "plan.json").read_text())
    largest, wanted = plan["batch"]["largest_rows_per_device"], plan["wanted"]
    assert plan["rows_tried"][str(largest)] and plan["fits_as_configured"] and largest >= 2048
    assert all(fits == (int(rows) <= largest) for rows, fits in plan["rows_tried"].items())
    assert wanted["rows_per_device"] == 65_536 > largest
    assert wanted["fits"] and 65_536 / wanted["streams"] <= largest
    assert wanted["per_chip"]["peak"] < wanted["per_chip"]["capacity"]


def test_every_shipped_training_config_is_compiled():
    assert {"configs/eclip.py:base", "configs/myntra.py", "configs/quickstart.py"} < set(shipped())
    assert {"configs/make.py:tiny", "configs/same_style.py:magento", "configs/siglip_finetune.py:lit"} < set(shipped())
    assert not any("prepare" in name for name in shipped()) and set(LARGER) < set(shipped())
    assert {name.partition(":")[0] for name in SLICES} == set(CHIPS)
    assert all(chip.source.startswith("https://docs.cloud.google.com/tpu/docs/") for chip in CHIPS.values())
