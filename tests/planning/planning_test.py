"""Counts against programs whose counts are known by hand, the roofline, the search, the report of a plan."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from configs import eclip
from ecommerce_vl.errors import UserError
from ecommerce_vl.planning.blocks import batch_blocks
from ecommerce_vl.planning.collectives import read_collectives, trip_count
from ecommerce_vl.planning.flops import flops_of
from ecommerce_vl.planning.program import DoesNotFit, Program, count_step
from ecommerce_vl.planning.report import MAX_COMPILATIONS, largest_rows, lines, make_plan, streams_that_fit
from ecommerce_vl.planning.roofline import roofline
from ecommerce_vl.planning.topology import CHIPS, GIB, Topology, open_topology, parse, plan_mesh


def abstract(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def program(rows, *, flops=10**12, traffic=0.0, collectives=None, fixed=2 * GIB, a_row=0.01 * GIB):
    """A program whose memory is a line in its rows."""
    peak = int(fixed + a_row * rows)
    return Program(rows, GIB, GIB, 0, peak - 2 * GIB, 0, peak, flops, flops, 0, flops, traffic, collectives or {}, ())


def slice_of(name="v5e", devices=4):
    return Topology(f"{name}:2x2", CHIPS[name], tuple(range(devices)))


# -- Names -------------------------------------------------------------------------------------------------------------


def test_names_of_slices():
    assert parse("v5e:16x16") == ("v5e", (16, 16)) and parse("v5p:8x8x16") == ("v5p", (8, 8, 16))
    assert parse("TPU7x:4x4x4") == ("tpu7x", (4, 4, 4)) and parse("local:8") == ("local", (8,))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("v9:4x4", "'v9:4x4'; expected one of v5e, v5p, v6e, tpu7x"),
        ("", "expected one of v5e"),
        ("v5e:4", "expected 2 sizes, such as v5e:16x16"),
        ("v5p:4x4", "expected 3 sizes, such as v5p:4x4x8"),
        ("v5e:0x4", "expected 2 sizes"),
        ("v5e:1x2", "2 chips; expected 4 to 1,024"),
        ("v5p:16x16x16", "4096 chips; expected 4 to 1,024"),
        ("local", "expected 1 sizes, such as local:8"),
    ],
)
def test_unknown_slices_are_refused_in_one_sentence(name, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        parse(name)
    assert str(caught.value).startswith("--topology") and "\n" not in str(caught.value)


def test_the_mesh_covers_the_slice():
    assert dict(plan_mesh(slice_of(), data=-1, fsdp=2).shape) == {"data": 2, "fsdp": 2}
    with pytest.raises(UserError, match=r"config.mesh is data=1 x fsdp=3"):
        plan_mesh(slice_of(), data=-1, fsdp=3)


# -- Counts ------------------------------------------------------------------------------------------------------------


def test_flops_of_products_loops_and_gradients():
    product = lambda a, b: a @ b
    assert flops_of(product, abstract(3, 5), abstract(5, 7)) == (2 * 3 * 5 * 7, 0, 2 * 3 * 5 * 7)
    loop = lambda a, b: jax.lax.scan(lambda x, _: (x @ b, None), a, length=6)[0].sum()
    assert flops_of(loop, abstract(3, 5), abstract(5, 5)).total == 6 * 2 * 3 * 25
    # Forward once, then twice as much for the two gradients.
    assert flops_of(jax.grad(loop, (0, 1)), abstract(3, 5), abstract(5, 5)).total == 3 * 6 * 2 * 3 * 25
    batched = lambda a, b: jnp.einsum("bij,bjk->bik", a, b)
    assert flops_of(batched, abstract(4, 3, 5), abstract(4, 5, 7)).total == 4 * 2 * 3 * 5 * 7
    patches = lambda x, k: jax.lax.conv_general_dilated(
        x, k, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert flops_of(patches, abstract(2, 8, 8, 3), abstract(4, 4, 3, 16)).total == 2 * (2 * 2 * 2 * 16) * (4 * 4 * 3)


def test_recomputation_counts_and_the_mapped_part_is_apart():
    once = lambda a, b: jnp.sin(a @ b).sum()
    kept = flops_of(jax.grad(once, (0, 1)), abstract(3, 5), abstract(5, 7)).total
    again = flops_of(jax.grad(jax.checkpoint(once), (0, 1)), abstract(3, 5), abstract(5, 7)).total
    assert again - kept == 2 * 3 * 5 * 7
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    mapped = jax.shard_map(lambda a, b: a @ b, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))
    both = lambda a, b, c: mapped(a @ c, b)
    # A device multiplies (2,5) by (5,7); four do so.
    assert flops_of(both, abstract(8, 6), abstract(5, 7), abstract(6, 5))[:2] == (
        2 * 8 * 5 * 7 + 2 * 8 * 6 * 5, 2 * 8 * 35,
    )  # fmt: skip


def test_a_locked_tower_is_planned_without_its_backward_pass():
    config = eclip.get_config("tiny").to_dict()
    free, _ = count_step(config, open_topology("local:1"), rows=8, streams=1)
    config["optimizer"] |= {"locked": ("image/",)}
    locked, _ = count_step(config, open_topology("local:1"), rows=8, streams=1)
    assert locked.total < 0.6 * free.total


@pytest.mark.parametrize(
    ("precision", "dtype", "passes"),
    [(None, jnp.float32, 1), ("high", jnp.float32, 3), ("highest", jnp.float32, 6), ("highest", jnp.bfloat16, 1)],
)
def test_passes_of_a_matrix_unit(precision, dtype, passes):
    once = 2 * 3 * 5 * 7
    product = lambda a, b: jax.lax.scan(
        lambda c, _: (c + jnp.matmul(a, b, precision=precision).sum(), None), 0.0, length=2
    )
    shapes = (jax.ShapeDtypeStruct(shape, dtype) for shape in ((3, 5), (5, 7)))
    assert flops_of(product, *shapes) == (2 * once, 0, 2 * once * passes)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_collectives_of_a_program_of_known_ones(devices):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))

    def local(x_bxD):
        def turn(carry, _):
            return carry + jax.lax.psum(jnp.sin(carry * x_bxD), "data"), None

        gathered = jax.lax.all_gather(x_bxD, "data", tiled=True)
        summed = jax.lax.scan(turn, jax.lax.psum(x_bxD, "data"), length=5)[0]
        return summed, gathered.sum(axis=0)

    mapped = jax.shard_map(local, mesh=mesh, in_specs=P("data"), out_specs=(P(), P()), check_vma=False)
    text = jax.jit(mapped).lower(abstract(4 * devices, 32)).compile().as_text()
    found = read_collectives(text, num_devices=devices)
    shard = 4 * 32 * 4
    assert set(found) == {"all-reduce", "all-gather"}
    assert (found["all-reduce"].count, found["all-reduce"].bytes) == (6, 6 * shard)
    assert found["all-reduce"].wire_bytes == pytest.approx(2 * 6 * shard * (devices - 1) / devices)
    assert (found["all-gather"].count, found["all-gather"].bytes) == (1, devices * shard)
    assert found["all-gather"].wire_bytes == pytest.approx(shard * (devices - 1))


def test_a_block_of_the_whole_batch_is_found():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    rows = jax.ShapeDtypeStruct((96, 8), jnp.float32, sharding=jax.sharding.NamedSharding(mesh, P("data")))

    def text(spec):
        scores = lambda x: jax.lax.with_sharding_constraint(x @ x.T, jax.sharding.NamedSharding(mesh, spec))
        return jax.jit(lambda x: jax.nn.log_softmax(scores(x)).trace()).lower(rows).compile().as_text()

    whole, rows_of_a_device = text(P()), text(P("data"))
    assert any(array.startswith("f32[96,96]") for array in batch_blocks(whole, batch=96, sizes={8}))
    assert batch_blocks(whole, batch=96, sizes={8, 96}) is None
    assert batch_blocks(rows_of_a_device, batch=96, sizes={8, 96}) == ()


TPU_TEXT = """
HloModule jit_step

%piece.1 (p: f32[8,4]) -> f32[32,4] {
  %all-gather.1 = f32[32,4]{0,1:T(8,128)} all-gather(%p), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}
}

%piece.2 (p: f32[8,4]) -> f32[32,4] {
  %all-gather.2 = f32[32,4]{0,1:T(8,128)} all-gather(%p), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}
}

%bound (s: (s32[], f32[8,4])) -> pred[] {
  %constant.9 = s32[]{:T(128)} constant(12)
  %less = pred[] compare(%i, %constant.9), direction=LT
}

%body (s: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %rs = bf16[2,4]{1,0} reduce-scatter(%x), channel_id=9, replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add
}

ENTRY %main (p: f32[8,4]) -> f32[32,4] {
  %a = f32[32,4] fusion(%p), kind=kCustom, calls=%piece.1
  %b = f32[32,4] fusion(%p), kind=kCustom, calls=%piece.2
  %w = (s32[], f32[8,4]) while(%t), condition=%bound, body=%body
  %s = (f32[8,4], f32[32,4]) all-gather-start(%p), channel_id=11, replica_groups={{0,1,2,3}}, dimensions={0}
}
"""


def test_collectives_as_the_tpu_compiler_writes_them():
    found = read_collectives(TPU_TEXT, num_devices=8)
    # Two fused pieces of channel 7 are one; an asynchronous start holds its operand beside its result.
    assert (found["all-gather"].count, found["all-gather"].bytes) == (2, 2 * 32 * 4 * 4)
    assert (found["reduce-scatter"].count, found["reduce-scatter"].bytes) == (12, 12 * 4 * (2 * 4 * 2))
    assert trip_count('while(%t), backend_config={"known_trip_count":{"n":"3"}}', []) == 3
    assert trip_count("while(%t)", []) == 1


def test_the_roofline_takes_the_longest():
    chip = CHIPS["v5e"]
    fast = roofline(program(8, flops=int(4 * chip.flops)), slice_of())
    assert (fast.bound, fast.step_s, fast.mfu) == ("compute", 1.0, 1.0)
    read = roofline(program(8, flops=int(4 * chip.flops), traffic=2 * chip.hbm_bytes_per_s), slice_of())
    assert (read.bound, read.step_s, read.mfu) == ("memory", 2.0, 0.5)
    split = dataclasses.replace(program(8, flops=int(4 * chip.flops)), passes=int(8 * chip.flops))
    assert (roofline(split, slice_of()).step_s, roofline(split, slice_of()).mfu) == (2.0, 0.5)


# -- The search --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [8, 128, 1392, 5000, 100_000])
def test_the_search_finds_the_largest_rows_in_few_compilations(start):
    compiled = []

    def compile_rows(rows):
        compiled.append(rows)
        if rows > 20_000:
            raise DoesNotFit
        return program(rows)

    tried = largest_rows(compile_rows, start=start, capacity=16 * GIB, say=lambda line: None)
    best = max((rows for rows, fits in tried.items() if fits), default=0)
    assert len(compiled) == len(set(compiled)) <= MAX_COMPILATIONS
    assert best <= 1400  # (16 - 2) GiB over 0.01 GiB a row
    if start <= 5000:
        assert best >= 1200


@pytest.mark.parametrize(
    ("rows", "stream_rows", "overhead", "streams"),
    [(4096, 1400, 0, 4), (1400, 1400, 0, 1), (1500, 700, 0, 3), (4096, 1400, 800, 8), (4096, 1400, 10_000, None)],
)
def test_streams_are_compiled_with_the_whole_batch(rows, stream_rows, overhead, streams):
    tried = []

    def compile_program(rows, streams):
        tried.append(streams)
        return program(rows // streams + overhead)  # vectors and loss of the whole batch lie on top of a stream

    count, found = streams_that_fit(
        compile_program, rows=rows, stream_rows=stream_rows, capacity=16 * GIB, say=lambda line: None
    )
    assert rows % count == 0 and count == tried[-1] and len(tried) <= 2
    assert (count if found else None) == streams


def config(**changes):
    return {"batch_size": 512, "total_samples": 51_200, "streams": 1, "mesh": {"data": -1, "fsdp": 1}} | changes


def plan_of(batch=None, search=False, compile_program=lambda rows, streams: program(rows // streams), **changes):
    return make_plan(
        config(**changes), slice_of(), batch=batch, search=search, say=lambda line: None,
        compile_program=compile_program,
    )  # fmt: skip


def test_a_plan_is_json_and_says_what_does_not_fit():
    plan = plan_of(batch=16_384, search=True)
    assert json.loads(json.dumps(plan)) == plan
    assert plan["batch"]["largest_rows_per_device"] == 1400
    assert (plan["wanted"]["rows_per_device"], plan["wanted"]["streams"], plan["wanted"]["fits"]) == (4096, 4, True)
    assert plan["wanted"]["per_chip"]["peak"] == program(1024).peak and "in 4 streams:" in "\n".join(lines(plan))
    assert plan["per_chip"]["peak"] == program(128).peak < plan["per_chip"]["capacity"]
    # The configured rows do not fit at once: told, and compiled in the streams in which they do.
    big = plan_of(batch_size=8000, search=True)
    assert not big["fits_as_configured"] and "the configured ones do not fit" in "\n".join(lines(big))
    assert (big["wanted"]["batch"], big["wanted"]["streams"], big["wanted"]["fits"]) == (8000, 2, True)
    assert "wanted" not in plan_of(search=True)
    with pytest.raises(UserError, match=r"--batch is 130; expected a multiple of the 4 devices"):
        plan_of(batch=130)

    def never(rows, streams):
        raise DoesNotFit

    assert "does not fit" in lines(plan_of(compile_program=never))[-1]


def test_days_and_chip_hours():
    step = program(128, flops=int(4 * CHIPS["v5e"].flops * 36))  # 36 s
    plan = plan_of(compile_program=lambda rows, streams: step)
    assert plan["run"]["days"] == pytest.approx(100 * 36 / 86400)
    assert plan["run"]["chip_hours"] == pytest.approx(4.0)
