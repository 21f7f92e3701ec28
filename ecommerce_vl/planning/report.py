"""The plan: a compiled step, what it takes of a chip, how many rows fit, and what the run costs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from ecommerce_vl.planning.program import DoesNotFit, Program, compile_step
from ecommerce_vl.planning.roofline import roofline
from ecommerce_vl.planning.topology import GIB, Topology

ROWS_MULTIPLE = 8  # sublanes of a TPU tile
MAX_COMPILATIONS = 5

Compile = Callable[[int], Program]


def largest_rows(compile_rows: Compile, *, start: int, capacity: float, say: Callable[[str], None]) -> dict[int, Any]:
    """Rows -> Program, or None where it does not fit, of every compilation on the way to the largest that fits.

    Memory is nearly a line in the rows, so two programs that fit give the next guess; it is then compiled. At most
    `MAX_COMPILATIONS`; a later guess lies between what fits and what does not.
    """
    tried: dict[int, Any] = {}

    def attempt(rows: int) -> None:
        say(f"compile  {rows:,} rows a device ({len(tried) + 1} of at most {MAX_COMPILATIONS})")
        try:
            program = compile_rows(rows)
        except DoesNotFit:
            program = None
        tried[rows] = program if program is not None and program.peak <= capacity else None

    attempt(start)
    while len(tried) < MAX_COMPILATIONS:
        fits = sorted(rows for rows, program in tried.items() if program)
        fails = sorted(rows for rows, program in tried.items() if not program)
        if not fits:
            guess = fails[0] // 2
        elif len(fits) == 1:
            guess = (fits[0] + fails[0]) // 2 if fails else 2 * fits[0]
        else:
            low, high = fits[-2:]
            slope = (tried[high].peak - tried[low].peak) / (high - low)
            guess = high + int((capacity - tried[high].peak) / slope) if slope > 0 else 2 * high
            guess = min(guess, (high + fails[0]) // 2) if fails else guess
        guess = guess // ROWS_MULTIPLE * ROWS_MULTIPLE or guess
        if guess < 1 or guess in tried or (fits and guess <= fits[-1]):
            break
        attempt(guess)
    return tried


def make_plan(
    config: Mapping[str, Any],
    topology: Topology,
    *,
    batch: int | None,
    search: bool,
    say: Callable[[str], None],
    compile_rows: Compile | None = None,
) -> dict[str, Any]:
    """The plan as JSON.

    Args:
      batch: wanted global batch; None takes the config's.
      search: also look for the largest rows a device; needs a chip with a known memory.
      say: receives progress.
      compile_rows: rows -> Program; None compiles the config's step.
    """
    compile_rows = compile_rows or (lambda rows: compile_step(config, topology, rows=rows))
    devices, chip = len(topology.devices), topology.chip
    wanted = batch or config["batch_size"]
    rows = max(1, math.ceil(config["batch_size"] / devices))
    if chip is None or not search:
        say(f"compile  {rows:,} rows a device")
        try:
            tried = {rows: compile_rows(rows)}
        except DoesNotFit:
            tried = {rows: None}
    else:
        tried = largest_rows(compile_rows, start=rows, capacity=chip.hbm_bytes / chip.devices, say=say)
    fitting = [count for count, program in tried.items() if program]
    largest = max(fitting, default=None)
    best = largest if largest is not None and largest < rows else rows
    program = tried.get(rows) or tried.get(best)
    plan: dict[str, Any] = {
        "topology": {"name": topology.name, "chips": topology.num_chips, "devices": devices},
        "batch": {"configured": config["batch_size"], "wanted": wanted, "rows_per_device": best},
        "fits_as_configured": tried[rows] is not None,
        "rows_tried": {str(count): program is not None for count, program in sorted(tried.items())},
    }
    if chip is not None:
        plan["chip"] = dataclasses.asdict(chip)
    if program is None:
        return plan
    plan["per_device"] = {
        name: getattr(program, name) for name in ("parameters", "optimizer", "batch", "activations", "code", "peak")
    }
    plan["per_chip"] = {name: size * (chip.devices if chip else 1) for name, size in plan["per_device"].items()}
    plan["per_step"] = {"flops": program.flops, "model_flops": program.model_flops, "loss_flops": program.loss_flops}
    plan["per_step"]["loss_share"] = program.loss_flops / max(program.flops, 1)
    plan["collectives"] = {kind: dataclasses.asdict(total) for kind, total in sorted(program.collectives.items())}
    plan["counted"] = {
        "collectives": "one step, one device; loop bodies times their trip count where the program tells it, else once",
        "flops": "matrix products and convolutions of the traced step, all devices; model_flops without recomputation",
        "peak": "arguments + results not aliased to them + temporaries + code, as the compiler reports them",
    }
    if largest is not None:
        plan["batch"]["largest_rows_per_device"] = largest if search and chip else None
        plan["batch"]["streams_for_wanted"] = math.ceil(wanted / (largest * devices))
    if chip is not None:
        plan["per_chip"]["capacity"] = chip.hbm_bytes
        line = roofline(program, topology)
        seconds = config["total_samples"] / (program.rows * devices) * line.step_s
        plan["roofline"] = dataclasses.asdict(line)
        plan["run"] = {
            "samples": config["total_samples"],
            "days": seconds / 86400,
            "chip_hours": seconds / 3600 * topology.num_chips,
        }
    return plan


def lines(plan: Mapping[str, Any]) -> list[str]:
    """The plan for people."""
    top, batch = plan["topology"], plan["batch"]
    shown = [f"slice    {top['name']} · {top['chips']:,} chips · {top['devices']:,} devices"]
    if "per_chip" not in plan:
        tried = ", ".join(plan["rows_tried"])
        return [*shown, f"memory   does not fit; rows a device tried: {tried}; raise --config.mesh.fsdp or remat"]
    gib = {name: size / GIB for name, size in plan["per_chip"].items()}
    of = f" of {gib['capacity']:.0f}" if "capacity" in gib else ""
    shown.append(
        f"memory   a chip, GiB: parameters {gib['parameters']:.3f} · optimizer {gib['optimizer']:.3f} · "
        f"activations {gib['activations']:.3f} · peak {gib['peak']:.3f}{of}"
    )
    step = plan["per_step"]
    shown.append(f"compute  {step['flops'] / 1e12:.2f} TFLOP a step, {step['loss_share']:.2%} of it in the loss")
    for kind, total in plan["collectives"].items():
        shown.append(f"network  {kind:18s} {total['count']:>5,} x  {total['bytes'] / 2**20:>10,.1f} MiB a device")
    shown.append(
        f"batch    {batch['rows_per_device']:,} rows a device"
        + ("" if plan["fits_as_configured"] else " (the configured ones do not fit)")
        + (f" · largest that fits {batch['largest_rows_per_device']:,}" if batch.get("largest_rows_per_device") else "")
        + f" · {batch['streams_for_wanted']} streams for {batch['wanted']:,}"
    )
    if "roofline" in plan:
        line, run = plan["roofline"], plan["run"]
        shown.append(
            f"time     at least {line['step_s'] * 1e3:.1f} ms a step (compute {line['compute_s'] * 1e3:.1f}, memory "
            f"{line['memory_s'] * 1e3:.1f}, interconnect {line['interconnect_s'] * 1e3:.1f}) · MFU at most "
            f"{line['mfu']:.0%}, bound by {line['bound']}"
        )
        shown.append(
            f"run      {run['samples']:,} samples: {run['days']:.2f} days, {run['chip_hours']:,.1f} chip-hours"
        )
    return shown
