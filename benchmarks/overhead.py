"""What Python costs a training step outside the compiled program.

    python -m benchmarks.overhead

The model is trivially small, with as many arrays as a real one, since layers are stacked and so their number does not
grow. Printed are medians: placing a batch on the devices, calling the step until it returns, and both with the program
itself awaited, which is an upper bound where a backend runs small programs before it returns.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax

from benchmarks.steps import make_step, random_batch, small_config
from ecommerce_vl.training.mesh import batch_sharding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()

    config = small_config(batch=2 * jax.device_count(), size=8, width=8, depth=1)
    state, step, mesh = make_step(config)
    rows, sharding = random_batch(config), batch_sharding(mesh)
    num_leaves = len(jax.tree.leaves(state))
    placed, called, awaited = [], [], []
    for _ in range(args.steps + 10):
        begin = time.perf_counter()
        batch = jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), rows)
        at_device = time.perf_counter()
        state, metrics = step(state, batch)
        returned = time.perf_counter()
        jax.block_until_ready(metrics)
        placed.append(at_device - begin)
        called.append(returned - at_device)
        awaited.append(time.perf_counter() - begin)
    median_us = lambda seconds: 1e6 * statistics.median(seconds[10:])  # without the compilation
    print(
        f"{jax.device_count()} x {jax.devices()[0].device_kind} · jax {jax.__version__} · "
        f"{num_leaves} arrays of state, {len(rows)} of a batch · {args.steps} steps"
    )
    print(f"placing the batch   {median_us(placed):>8.0f} us")
    print(f"calling the step    {median_us(called):>8.0f} us")
    print(f"until it is done    {median_us(awaited):>8.0f} us")


if __name__ == "__main__":
    main()
