"""What streams cost and save: time and temporary memory of a training step at equal batch.

    python -m benchmarks.streams

The contenders differ in K alone. They take turns, round after round, and the ratios to K = 1 are medians over rounds;
memory is what the compiler reserves for temporaries on a device. The encoders are small, their batch is not.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import numpy as np

from benchmarks.steps import make_step, random_batch, small_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=64, help="pixels of a picture's side")
    parser.add_argument("--width", type=int, default=128, help="of both encoders")
    parser.add_argument("--depth", type=int, default=4, help="layers of the image encoder; the text encoder has half")
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()

    config = small_config(batch=args.batch, size=args.size, width=args.width, depth=args.depth)
    runs = {}
    for streams in args.streams:
        state, step, mesh = make_step(config, streams=streams)
        batch = random_batch(config, mesh)
        compiled = step.lower(state, batch).compile()
        state, _ = jax.block_until_ready(compiled(state, batch))
        runs[streams] = compiled, state, batch
    taken = {streams: [] for streams in runs}
    for _ in range(args.rounds):
        for streams, (compiled, state, batch) in runs.items():
            begin = time.perf_counter()
            state, _ = jax.block_until_ready(compiled(state, batch))
            taken[streams].append(time.perf_counter() - begin)
            runs[streams] = compiled, state, batch
    device = jax.devices()[0].device_kind
    print(f"{jax.device_count()} x {device} · jax {jax.__version__} · batch {args.batch} · {args.size} pixels", end="")
    print(f" · width {args.width} · depth {args.depth} · {args.rounds} rounds")
    print(f"{'streams':>8} {'ms a step':>10} {'ratio':>6} {'quartiles':>12} {'temp MiB':>9} {'ratio':>6}")
    first = args.streams[0]
    memory = {k: compiled.memory_analysis().temp_size_in_bytes for k, (compiled, _, _) in runs.items()}
    for streams, seconds in taken.items():
        ratios = np.array(seconds) / np.array(taken[first])  # of the same round
        low, high = np.quantile(ratios, (0.25, 0.75))
        print(
            f"{streams:>8} {1e3 * statistics.median(seconds):>10.1f} {np.median(ratios):>6.2f} "
            f"{f'{low:.2f}-{high:.2f}':>12} {memory[streams] / 2**20:>9.1f} {memory[streams] / memory[first]:>6.2f}"
        )


if __name__ == "__main__":
    main()
