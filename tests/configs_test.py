"""Every key of every shipped config is read by something; one that nothing reads is found."""

import ast
import copy
import dataclasses
from functools import cache
from pathlib import Path

import jax
import pytest

from configs import prepare
from ecommerce_vl.data.curation import CurationSettings
from ecommerce_vl.data.identity import IdentitySettings
from ecommerce_vl.data.images import ImagePipeline, StoredForm
from ecommerce_vl.data.ingest import IngestSettings
from ecommerce_vl.data.links import LinkPolicy
from ecommerce_vl.data.logs.settings import from_config
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.seed_model.settings import Settings as SeedModelSettings
from ecommerce_vl.data.sources import open_source
from ecommerce_vl.planning.program import SPECIAL_IDS, abstract_batch
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.inputs import example_reader
from ecommerce_vl.training.mesh import make_mesh
from ecommerce_vl.training.optimizer import learning_rate, make_optimizer
from ecommerce_vl.training.schedule import make_stages
from ecommerce_vl.training.state import define_model, make_state
from ecommerce_vl.training.step import make_train_step
from tests.shipped import FILES, arguments, config_of

ROOT = Path(__file__).parents[1]
METRICS = (ROOT / "docs" / "metrics.md").read_text()
# What is read where a run begins, with files of the run: key -> the file of the package that does.
ELSEWHERE = {
    "init.text": "weights.py",
    "init.image": "weights.py",
    "init.dual": "weights.py",
    "init.joint": "weights.py",
    "init.run": "weights.py",
    "text.tokenizer": "training/inputs.py",
}
# Settings of the trace: small, and with pairs that the sample catalog has; then what is read under other settings only.
SMALL = {"batch_size": 64, "batch_schedule": (), "data.pairs": "catalog", "data.queries": "derived", "bank.size": 512}
SWITCHES = {
    "same_style": {"loss.infonce": True},
}


class Read(dict):
    """A nested mapping that notes the path of each value that is taken out of it."""

    def __init__(self, content, noted, prefix=""):
        super().__init__(
            {
                name: Read(one, noted, f"{prefix}{name}.") if isinstance(one, dict) else one
                for name, one in content.items()
            }
        )
        self._noted, self._prefix = noted, prefix

    def __getitem__(self, name):
        self._noted.add(self._prefix + name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self._noted.add(self._prefix + name)
        return super().get(name, default)

    def __iter__(self):  # its own, so that `**` asks for each value
        return iter(list(super().keys()))

    def items(self):
        return [(name, self[name]) for name in self]

    def values(self):
        return [self[name] for name in self]

    def __deepcopy__(self, memo):
        return self


def leaves(content, prefix=""):
    for name, one in content.items():
        yield from leaves(one, f"{prefix}{name}.") if isinstance(one, dict) and one else [prefix + name]


@cache
def written_out():
    """Paths that the package reads as config["a"]["b"], whatever the config; what only checks them does not count."""
    found = set()
    for file in (ROOT / "ecommerce_vl").rglob("*.py"):
        if "planning" in file.parts:
            continue
        tree = ast.parse(file.read_text())
        checks = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "validate"]
        left_out = {id(node) for check in checks for node in ast.walk(check)}
        for node in ast.walk(tree):
            if id(node) not in left_out and (path := path_of(node)):
                found.add(path)
    return found


def path_of(node):
    keys = []
    while isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        keys.append(node.slice.value)
        node = node.value
    name = getattr(node, "id", None) or getattr(node, "attr", None)
    return ".".join(map(str, reversed(keys))) if keys and name == "config" else None


class Tokenizer:
    separator = ""

    def of_length(self, length):
        return self


def read_in_training(config, data):
    """Paths that are read while a run is built and its step is traced; nothing is computed."""
    noted = set()
    config = Read(config, noted)
    mesh = make_mesh(**config["mesh"], batch_size=config["batch_size"])
    to_example = example_reader(config, ImagePipeline.of(config["image"]), Tokenizer())
    source = open_source(data, config["data"])
    source.order(batch_size=config["batch_size"], seed=0)
    source.to_batch(to_example)
    system = build_system(config, vocab_size=config["text"]["vocab_size"], special_ids=SPECIAL_IDS)
    stages = make_stages(config)
    optimizer = make_optimizer(config["optimizer"], schedule=learning_rate(config["optimizer"], stages))
    graphdef, _ = define_model(system)
    state, _ = make_state(system, optimizer, seed=0, mesh=mesh)
    step = make_train_step(system, graphdef, optimizer, abstract_state=state, seed=0, mesh=mesh)
    _, metrics = jax.eval_shape(step, state, abstract_batch(config, mesh))
    unknown = [name for name in metrics if f"`{name}`" not in METRICS and not name.startswith(("loss_", "weight_"))]
    assert not unknown, f"docs/metrics.md does not say what {unknown} are"
    return noted


def with_values(config, values):
    """The config with other values of those keys that it has."""
    config = copy.deepcopy(config)
    for path, value in values.items():
        *groups, name = path.split(".")
        group = config
        for one in groups:
            group = group.get(one, {})
        if name in group:
            group[name] = value
    return config


def unread(name, config, data):
    small = with_values(config, SMALL)
    noted = read_in_training(small, data)
    if name in SWITCHES:
        noted |= read_in_training(with_values(small, SWITCHES[name]), data)
    return set(leaves(config)) - noted - written_out() - set(ELSEWHERE)


@pytest.mark.parametrize("name", [name for name in FILES if name != "prepare"])
def test_every_key_is_read(name, sample_data):
    config, data = config_of(name), PreparedData(sample_data)
    config["bogus"] = config["data"]["bogus"] = config["optimizer"]["bogus"] = 1
    assert unread(name, config, data) == {"bogus", "data.bogus", "optimizer.bogus"}
    for other in arguments(name):
        assert set(leaves(config_of(name, other))) <= set(leaves(config)), f"{other} has keys of its own"


def test_every_key_of_the_preparation_is_read():
    config = config_of("prepare", "clean")
    config["bogus"] = config["images"]["bogus"] = 1
    noted = set()
    read = Read(config, noted)
    IngestSettings.of(read, {})
    CurationSettings.of(read)
    from_config(read["logs"])
    SeedModelSettings(**read["seed_model"])
    assert set(leaves(config)) - noted - written_out() == {"bogus", "images.bogus"}
    assert set(leaves(config_of("prepare", "raw"))) <= set(leaves(config))


def test_what_is_read_elsewhere_is_read_there():
    for path, file in ELSEWHERE.items():
        name = path.split(".")[-1]
        assert f'"{name}"' in (ROOT / "ecommerce_vl" / file).read_text(), f"{file} does not name {name}"


def test_rules_of_preparation_have_the_defaults_of_their_config():
    config = prepare.get_config().to_dict()
    identity = {name: value for name, value in config["identity"].items() if name != "drop_copies"}
    assert dataclasses.asdict(IdentitySettings()) == identity
    for settings in (LinkPolicy(), StoredForm()):
        of_config = {name: config["images"][name] for name in dataclasses.asdict(settings)}
        assert dataclasses.asdict(settings) == of_config
