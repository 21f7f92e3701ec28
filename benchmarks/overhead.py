"""What Python costs: outside of the compiled step, and before a door says its first word.

    python -m benchmarks.overhead

The model is trivially small, with as many arrays as a real one, since layers are stacked and so their number does not
grow. Printed are medians: placing a batch on the devices, calling the step until it returns, and both with the program
itself awaited, which is an upper bound where a backend runs small programs before it returns. Then, in processes of
their own, `import ecommerce_vl` and every door's `--help`: seconds by the clock and of the processor, medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import jax

from benchmarks.steps import make_step, random_batch, small_config
from ecommerce_vl.training.mesh import batch_sharding

DOORS = ("prepare", "train", "evaluate", "export", "search", "plan")
GOAL_S = 2.0  # for a door's --help


def start_up(arguments: list[str], rounds: int) -> tuple[float, float]:
    """Median (seconds, processor seconds) of a Python process."""
    taken, used = [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        taken.append(time.perf_counter() - begin)
        used.append(usage.ru_utime + usage.ru_stime)
    return statistics.median(taken), statistics.median(used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--starts", type=int, default=5, help="processes of each kind")
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

    print(f"{'start-up':<26} {'s':>6} {'cpu s':>6}")
    commands = {"python": ["-c", "pass"], "import ecommerce_vl": ["-c", "import ecommerce_vl"]}
    commands |= {f"{door} --help": ["-m", f"ecommerce_vl.{door}", "--help"] for door in DOORS}
    slowest = 0.0
    for name, arguments in commands.items():
        seconds, used = start_up(arguments, args.starts)
        slowest = max(slowest, seconds)
        print(f"{name:<26} {seconds:>6.2f} {used:>6.2f}")
    print(f"every door within {GOAL_S:.0f} s: {'yes' if slowest < GOAL_S else 'NO'}")


if __name__ == "__main__":
    main()
