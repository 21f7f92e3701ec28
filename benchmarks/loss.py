"""Memory and time of the contrastive loss as the global batch grows: python -m benchmarks.loss

Forward and backward pass on 8 simulated devices of this machine's CPU, d = 512, float32. Two formulations to compare
with, differentiated by JAX, and ours:

    naive       the whole block by `jit`, which the compiler divides over devices
    all-gather  each device its b rows against the gathered texts, one block, two normalisers, the block kept
    gather      ours, `impl="gather"`: the block computed again in the backward pass
    chunked     ours, `impl="gather"` in chunks of rows
    ring        ours, `impl="ring"` in chunks of rows

Temporary memory a device is that of the compiled program. Times are medians of interleaved rounds, and given as a ratio
to naive as well; processor seconds beside them depend less on what else the machine does. A program is run up to
`--time_up_to` rows, and where the devices together stay below `--memory_gib`; else it is compiled only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from functools import partial

os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8").strip()
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ecommerce_vl.losses.candidates import Candidates, Rule
from ecommerce_vl.losses.contrastive import candidate_loss

GOAL_MIB = 100
PROGRAMS = ("naive", "all-gather", "gather", "chunked", "ring")
HIGHEST = jax.lax.Precision.HIGHEST


def naive(z_image, z_text, logit_scale):
    """CLIP's lines."""
    logits = jnp.exp(logit_scale) * jnp.matmul(z_image, z_text.T, precision=HIGHEST)
    cross_entropy = lambda x: -jnp.diagonal(jax.nn.log_softmax(x, axis=1)).mean()
    return (cross_entropy(logits) + cross_entropy(logits.T)) / 2


def all_gather(z_image, z_text, logit_scale, *, mesh):
    """One block of b x B a device; columns are normalised by reductions over devices."""
    axes = mesh.axis_names

    def local(z_image_bxD, z_text_bxD, logit_scale):
        z_text_BxD = jax.lax.all_gather(z_text_bxD, axes, tiled=True)
        logits_bxB = jnp.exp(logit_scale) * jnp.matmul(z_image_bxD, z_text_BxD.T, precision=HIGHEST)
        peak_B = jax.lax.pmax(jax.lax.stop_gradient(logits_bxB.max(axis=0)), axes)
        mass_B = jax.lax.psum(jnp.exp(logits_bxB - peak_B).sum(axis=0), axes)
        column_lse = (peak_B + jnp.log(mass_B)).mean()
        own_b = jnp.exp(logit_scale) * (z_image_bxD * z_text_bxD).sum(axis=1)
        rows = jax.lax.pmean((jax.nn.logsumexp(logits_bxB, axis=1) - 2 * own_b).mean(), axes)
        return (rows + column_lse) / 2

    return jax.shard_map(local, mesh=mesh, in_specs=(P(axes), P(axes), P()), out_specs=P())(
        z_image, z_text, logit_scale
    )


def ours(z_image, z_text, logit_scale, *, mesh, impl, chunk_rows):
    """The loss that the systems use, its metrics unused."""
    rows = len(z_image)
    texts, rule = Candidates(z_text, jnp.arange(rows), jnp.ones(rows, bool)), Rule(label_mode="catalog")
    return candidate_loss(z_image, texts, logit_scale, rule=rule, mesh=mesh, impl=impl, chunk_rows=chunk_rows)[0]


def programs(names: list[str], rows: int, dim: int, chunk_rows: int, mesh) -> dict:
    """Name -> compiled value and gradients."""
    sharding, everywhere = NamedSharding(mesh, P(mesh.axis_names)), NamedSharding(mesh, P())
    z = jax.ShapeDtypeStruct((rows, dim), jnp.float32, sharding=sharding)
    scale = jax.ShapeDtypeStruct((), jnp.float32, sharding=everywhere)
    losses = {
        "naive": naive,
        "all-gather": partial(all_gather, mesh=mesh),
        "gather": partial(ours, mesh=mesh, impl="gather", chunk_rows=0),
        "chunked": partial(ours, mesh=mesh, impl="gather", chunk_rows=chunk_rows),
        "ring": partial(ours, mesh=mesh, impl="ring", chunk_rows=chunk_rows),
    }
    out = (everywhere, (sharding, sharding, everywhere))
    return {
        name: jax.jit(jax.value_and_grad(losses[name], argnums=(0, 1, 2)), out_shardings=out)
        .lower(z, z, scale)
        .compile()
        for name in names
    }


def measure(compiled: dict, rows: int, dim: int, rounds: int, mesh) -> dict[str, tuple[float, float]]:
    """Median (seconds, processor seconds) of each, in rounds where each runs once; checks that all give one value."""
    sharding = NamedSharding(mesh, P(mesh.axis_names))
    keys = jax.random.split(jax.random.key(0))
    unit = lambda z: z / jnp.linalg.norm(z, axis=1, keepdims=True)
    vectors = [jax.device_put(unit(jax.random.normal(key, (rows, dim))), sharding) for key in keys]
    scale = jax.device_put(jnp.float32(3.0), NamedSharding(mesh, P()))
    seconds, values = {name: [] for name in compiled}, {}
    if not compiled:
        return {}
    for turn in range(rounds + 1):
        for name, program in compiled.items():
            start, used = time.perf_counter(), time.process_time()
            values[name] = float(jax.block_until_ready(program(*vectors, scale))[0])
            if turn:  # the first round warms up
                seconds[name].append((time.perf_counter() - start, time.process_time() - used))
    if max(values.values()) - min(values.values()) > 1e-4:
        raise SystemExit(f"the formulations do not give one value: {values}")
    return {name: tuple(map(statistics.median, zip(*times, strict=True))) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384, 32768, 65536])
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--time_up_to", type=int, default=16384, help="larger batches are compiled only")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--chunk_rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory_gib", type=float, default=8, help="of temporaries of all 8 devices, to run a program")
    flags = parser.parse_args()
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)

    print(f"jax {jax.__version__}, 8 simulated devices, d = {flags.dim}, chunks of {flags.chunk_rows} rows")
    print(
        f"{'batch':>7} {'program':<11} {'MiB a device':>13} {'seconds':>9} {'cpu s':>8} {'to naive':>9} {'by cpu':>7}"
    )
    for rows in flags.batches:
        compiled = programs(flags.programs, rows, flags.dim, flags.chunk_rows, mesh)
        memory = {name: program.memory_analysis().temp_size_in_bytes for name, program in compiled.items()}
        run = [name for name in compiled if rows <= flags.time_up_to and 8 * memory[name] <= flags.memory_gib * 2**30]
        timed = measure({name: compiled[name] for name in run}, rows, flags.dim, flags.rounds, mesh)
        for name in compiled:
            line = f"{rows:>7} {name:<11} {memory[name] / 2**20:>13.1f}"
            if name in timed:
                line += f" {timed[name][0]:>9.3f} {timed[name][1]:>8.2f}"
            if name in timed and "naive" in timed:
                ratios = [mine / naive for mine, naive in zip(timed[name], timed["naive"], strict=True)]
                line += f" {ratios[0]:>9.2f} {ratios[1]:>7.2f}"
            print(line, flush=True)
        if rows == 65536 and "ring" in compiled:
            reached = compiled["ring"].memory_analysis().temp_size_in_bytes <= GOAL_MIB * 2**20
            print(f"ring at 64 k within {GOAL_MIB} MiB: {'yes' if reached else 'NO'}")


if __name__ == "__main__":
    main()
