"""The base model on pods, on paper: python -m benchmarks.pods (pip install -e '.[plan]')

Training steps of `configs/eclip.py`. Three tables; the last two are compiled by the TPU compiler on a machine without
TPUs, which takes minutes a line:

    shares    of the loss in the FLOPs of base and large at 32 k and 1 M rows; traced only
    scaling   base on 16 to 1,024 chips of v5p, constant rows a chip: memory and traffic of a chip
    batches   base at 32 k and 1 M rows on 256 chips of v5e and 1,024 of v5p, in streams

The last two with the loss gathered and round the ring. Bytes are those that a chip sends in a step: of the hops of the
ring and of the gathered vectors they grow with the batch, of everything else they do not. FLOPs are those of the traced
program; passes count a float32 product six times, as a matrix unit executes it (`ecommerce_vl/planning/flops.py`).
"""

from __future__ import annotations

import argparse
import sys
import time

from configs import eclip
from ecommerce_vl.planning.program import DoesNotFit, Program, compile_step, count_step
from ecommerce_vl.planning.roofline import roofline
from ecommerce_vl.planning.topology import GIB, open_topology, prepare_environment

SCALING = ("v5p:2x2x4", "v5p:4x4x4", "v5p:4x8x8", "v5p:8x8x16")
PODS = {"v5e:16x16": 128, "v5p:8x8x16": 512}  # rows of a stream on a chip, at most
BATCHES = (32_768, 1_048_576)
TABLES = ("shares", "scaling", "batches")
LOSSES = {"gather": ("gather", 0), "ring": ("ring", 256)}
# What a chip sends, by kind: gradients are all-reduced; vectors and their gradients gathered, scattered or passed on.
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute")
HEAD = f"{'slice':<11} {'chips':>5} {'batch':>9} {'streams':>7} {'loss':<6} {'peak GiB':>8} "
HEAD += " ".join(f"{kind:>{len(kind)}}" for kind in KINDS)
HEAD += f" {'loss FLOPs':>10} {'passes':>7} {'step ms':>8} {'MFU':>4} {'cpu s':>10}"


def sent_mib(program: Program) -> str:
    """MiB that a chip sends in a step, of every kind."""
    sent = lambda kind: program.collectives[kind].wire_bytes / 2**20 if kind in program.collectives else 0.0
    return " ".join(f"{sent(kind):>{len(kind)},.1f}" for kind in KINDS)


def shares(size: str, name: str, batch: int) -> str:
    """One line of the first table."""
    topology = open_topology(name)
    rows = batch // len(topology.devices)
    streams = max(1, rows // PODS[name])
    flops, _ = count_step(eclip.get_config(size).to_dict(), topology, rows=rows, streams=streams)
    inside = flops.loss / flops.total
    # All products beside the loss are of bfloat16, one pass.
    passes = (flops.passes - flops.total + flops.loss) / flops.passes
    each = flops.total / batch / 1e9
    return f"{size:<6} {name:<11} {batch:>9,} {streams:>7} {each:>15.1f} {inside:>8.2%} {passes:>9.2%}"


def row(name: str, loss: str, *, rows: int, streams: int) -> str:
    """One line of a table."""
    config, topology = eclip.get_config("base").to_dict(), open_topology(name)
    config["loss"]["impl"], config["loss"]["chunk_rows"] = LOSSES[loss]
    begin, chips = time.process_time(), len(topology.devices)
    shown = f"{name:<11} {chips:>5,} {rows * chips:>9,} {streams:>7} {loss:<6} "
    try:
        program = compile_step(config, topology, rows=rows, streams=streams)
    except DoesNotFit:
        return shown + "does not fit"
    line = roofline(program, topology)
    return shown + (
        f"{program.peak / GIB:>8.2f} {sent_mib(program)} {program.loss_flops / program.flops:>10.2%} "
        f"{program.passes / program.flops:>7.2f} {1e3 * line.step_s:>8.1f} {line.mfu:>4.0%} "
        f"{time.process_time() - begin:>10.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=128, help="a chip, of the table of scaling")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--losses", nargs="+", choices=tuple(LOSSES), default=tuple(LOSSES), help="of the last two")
    parser.add_argument("--slices", nargs="+", default=SCALING, help="of the table of scaling")
    flags = parser.parse_args()
    prepare_environment(SCALING[0])
    if "shares" in flags.tables:
        print(
            f"{'size':<6} {'slice':<11} {'batch':>9} {'streams':>7} {'GFLOP a row':>15} {'in loss':>8} {'of passes':>9}"
        )
        for size in ("base", "large"):
            for name in PODS:
                for batch in BATCHES:
                    print(shares(size, name, batch), flush=True)
    if set(flags.tables) - {"shares"}:
        print(HEAD)
    if "scaling" in flags.tables:
        for loss in flags.losses:
            for name in flags.slices:
                print(row(name, loss, rows=flags.rows, streams=1), flush=True)
    if "batches" in flags.tables:
        for name, most in PODS.items():
            for batch in BATCHES:
                rows = batch // len(open_topology(name).devices)
                for loss in flags.losses:
                    print(row(name, loss, rows=rows, streams=max(1, rows // most)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
