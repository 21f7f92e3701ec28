"""Meshes, and where each parameter of each shipped config lies; the tables are frozen under tests/golden."""

import math
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from configs import eclip, gcl, item, make, myntra, query_finetune, query_retrieval, quickstart, same_style
from ecommerce_vl.errors import UserError
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.mesh import batch_sharding, make_mesh
from ecommerce_vl.training.optimizer import make_optimizer
from ecommerce_vl.training.sharding import partition_spec, path_name
from ecommerce_vl.training.state import define_model, make_state
from ecommerce_vl.training.step import make_train_step

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIGS = {
    "quickstart": quickstart.get_config,
    "myntra": myntra.get_config,
    "gcl-base": gcl.get_config,
    "make-base": make.get_config,
    "query_finetune-base": query_finetune.get_config,
} | {
    f"{system}-{size}": lambda config=config, size=size: config.get_config(size)
    for system, config, sizes in (
        ("eclip", eclip, eclip.SIZES),
        ("item", item, (*item.SIZES, *item.RECIPES)),
        ("same_style", same_style, same_style.SIZES),
        ("query_retrieval", query_retrieval, query_retrieval.SIZES),
    )
    for size in sizes
}


def table(config, mesh):
    """One line a parameter: path, shape, spec."""
    _, params = define_model(build_system(config, vocab_size=config.text.vocab_size, special_ids={"mask": 0}))
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return "".join(
        f"{path_name(path):60s} {leaf.shape!s:24s} {partition_spec(path_name(path), leaf.shape, mesh)}\n"
        for path, leaf in flat
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_the_sharding_table_of_each_config_is_frozen(name):
    """Run with UPDATE_GOLDEN=1 to write the tables anew, then review the difference."""
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    found, file = table(CONFIGS[name](), mesh), GOLDEN / f"sharding-{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(found)
    assert found == file.read_text()


@pytest.mark.parametrize("rule", ["adamw", "muon"])
def test_optimizer_moments_lie_where_their_parameters_lie(rule):
    config = quickstart.get_config()
    config.optimizer.name = rule
    mesh = make_mesh(data=2, fsdp=4, batch_size=8)
    optimizer = make_optimizer(config.optimizer, schedule=lambda step: 1.0)
    abstract, _ = make_state(build_system(config, vocab_size=512), optimizer, seed=0, mesh=mesh)
    leaves = {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(abstract)[0]}
    params = {name.removeprefix("params/"): leaf for name, leaf in leaves.items() if name.startswith("params/")}
    followed = set()
    for name, moment in leaves.items():
        for of, param in params.items():
            if name.startswith("opt_state/") and name.endswith("/" + of) and moment.shape == param.shape:
                assert moment.sharding == param.sharding, name
                followed.add(of)
    assert followed == set(params)
    assert any("fsdp" in leaf.sharding.spec for leaf in params.values())


def test_a_state_is_made_on_the_shardings_of_the_table():
    config = quickstart.get_config()
    mesh = make_mesh(data=2, fsdp=4, batch_size=8)
    optimizer = make_optimizer(config.optimizer, schedule=lambda step: 1.0)
    abstract, init = make_state(build_system(config, vocab_size=512), optimizer, seed=0, mesh=mesh)
    state = init()
    for wanted, leaf in zip(jax.tree.leaves(abstract), jax.tree.leaves(state), strict=True):
        assert leaf.sharding == wanted.sharding
    kernel = state.params["image"]["transformer"]["blocks"]["mlp"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.shape[2] == kernel.shape[2] // 4


def test_an_axis_that_does_not_divide_stays_whole():
    mesh = make_mesh(data=2, fsdp=4, batch_size=8)
    assert partition_spec("text/token", (1111, 32), mesh) == jax.sharding.PartitionSpec()


def test_a_batch_that_does_not_divide_names_the_next_that_do():
    with pytest.raises(UserError, match=r"batch_size is 60.*8 devices.*such as 56 or 64"):
        make_mesh(data=-1, fsdp=1, batch_size=60)


def test_axes_that_do_not_cover_the_devices():
    with pytest.raises(UserError, match=r"data=3 x fsdp=2 = 6 devices, but there are 8"):
        make_mesh(data=3, fsdp=2, batch_size=8)


def carried(text):
    """Numbers of elements that the collectives of a compiled program carry."""
    kinds = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    for line in text.splitlines():
        if found := re.search(rf"= (.*?) ({kinds})(-start)?\(", line):
            for shape in re.findall(r"\w\[([\d,]+)\]", found[1]):
                yield found[2], math.prod(map(int, shape.split(",")))


@pytest.mark.slow
def test_parameters_travel_layer_by_layer_and_activations_stay():
    """17 tokens a picture, so that an activation shows by a factor that no kernel has."""
    config = quickstart.get_config()
    config.image.stem, config.image.pool, config.optimizer.name = "patch", "cls", "adamw"
    config.image.size, config.image.patch_size, config.image.width, config.image.heads = 32, 8, 64, 4
    config.text.width, config.text.heads, config.text.max_length, config.embed_dim = 64, 4, 8, 32
    mesh, rows = make_mesh(data=2, fsdp=4, batch_size=64), 64
    optimizer = make_optimizer(config.optimizer, schedule=lambda step: 1e-3)
    system = build_system(config, vocab_size=520)
    abstract, _ = make_state(system, optimizer, seed=0, mesh=mesh)
    step = make_train_step(system, define_model(system)[0], optimizer, abstract_state=abstract, seed=0, mesh=mesh)
    array = lambda dtype, *shape: jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=batch_sharding(mesh))
    batch = {
        "image": array(jnp.uint8, 32, 32, 3),
        "text_ids": array(jnp.int32, 8),
        "text_mask": array(bool, 8),
        **{name: array(bool) for name in ("has_image", "has_text", "valid")},
        **{name: array(jnp.int32) for name in ("product_key", "catalog_key")},
    }
    found = list(carried(step.lower(abstract, batch).compile().as_text()))
    assert ("all-gather", 64 * 256) in found  # one layer of `mlp/up`, not the stack of two
    assert ("all-gather", 2 * 64 * 256) not in found
    one_row = 17 * 64
    assert not [(kind, size) for kind, size in found if size % 17 == 0 and size > one_row]
    assert not {kind for kind, _ in found} & {"all-to-all", "collective-permute"}
