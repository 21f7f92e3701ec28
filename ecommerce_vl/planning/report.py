"""The plan: a compiled step, what it takes of a chip, how many rows fit, and what the run costs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from ecommerce_vl.errors import UserError
from ecommerce_vl.planning.program import DoesNotFit, Program, compile_step
from ecommerce_vl.planning.roofline import roofline
from ecommerce_vl.planning.topology import GIB, Topology

ROWS_MULTIPLE = 8  # sublanes of a TPU tile
MAX_COMPILATIONS = 5

Compile = Callable[[int, int], Program]  # of rows on a device, and streams


def largest_rows(
    compile_rows: Callable[[int], Program], *, start: int, capacity: float, say: Callable[[str], None]
) -> dict[int, Any]:
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


def streams_that_fit(
    compile_step: Compile, *, rows: int, stream_rows: int, capacity: float, say: Callable[[str], None]
) -> tuple[int, Program | None]:
    """(streams, compiled step) of the fewest streams in which `rows` a device fit, None if the last tried does not.

    Args:
      rows: a device, of the wanted batch.
      stream_rows: that fit by themselves. Vectors and the loss of the whole batch come on top of a stream, so a first
        number of streams that does not fit is followed by the double.
    """
    counts = [count for count in range(1, rows + 1) if rows % count == 0]  # streams cut a device's rows evenly
    streams = next(count for count in counts if rows / count <= stream_rows or count == rows)
    for _ in range(2):
        say(f"compile  {rows:,} rows a device in {streams:,} streams")
        try:
            program = compile_step(rows, streams)
        except DoesNotFit:
            program = None
        if program is not None and program.peak <= capacity:
            return streams, program
        tried = streams
        streams = next((count for count in counts if count >= 2 * tried), rows)
        if streams == tried:
            break
    return tried, None


def make_plan(
    config: Mapping[str, Any],
    topology: Topology,
    *,
    batch: int | None,
    search: bool,
    say: Callable[[str], None],
    compile_program: Compile | None = None,
) -> dict[str, Any]:
    """The plan as JSON.

    Args:
      batch: wanted global batch, a multiple of the devices; None takes the config's.
      search: also look for the largest rows a device; needs a chip with a known memory.
      say: receives progress.
      compile_program: rows, streams -> Program; None compiles the config's step.

    Errors: UserError for a wanted batch that does not divide over the devices.
    """
    compile_program = compile_program or (
        lambda rows, streams: compile_step(config, topology, rows=rows, streams=streams)
    )
    devices, chip = len(topology.devices), topology.chip
    if batch and batch % devices:
        raise UserError(f"--batch is {batch}; expected a multiple of the {devices:,} devices of {topology.name}")
    capacity = chip.hbm_bytes / chip.devices if chip else math.inf
    rows, own_streams = max(1, math.ceil(config["batch_size"] / devices)), config["streams"]
    wanted_rows = batch // devices if batch else rows
    tried: dict[int, Program | None] = {}
    if search and chip:
        tried = largest_rows(lambda count: compile_program(count, own_streams), start=rows, capacity=capacity, say=say)
    else:
        say(f"compile  {rows:,} rows a device")
        try:
            program = compile_program(rows, own_streams)
        except DoesNotFit:
            program = None
        tried = {rows: program if program and program.peak <= capacity else None}
    largest = max((count for count, program in tried.items() if program), default=None)
    best = rows if tried[rows] or largest is None else largest
    program = tried.get(best)
    plan: dict[str, Any] = {
        "topology": {"name": topology.name, "chips": topology.num_chips, "devices": devices},
        "batch": {"configured": config["batch_size"], "rows_per_device": best, "streams": own_streams},
        "fits_as_configured": tried[rows] is not None,
        "rows_tried": {str(count): program is not None for count, program in sorted(tried.items())},
    }
    if chip is not None:
        plan["chip"] = dataclasses.asdict(chip)
    if program is None:
        return plan
    plan |= _of_program(program, topology)
    plan["counted"] = {
        "collectives": "one step, one device; loop bodies times their trip count where the program tells it, else once",
        "flops": "matrix products and convolutions of the traced step, all devices; model_flops without recomputation",
        "passes": "flops as a matrix unit of bfloat16 executes them: a float32 product at the highest precision is six",
        "blocks": "arrays of the program with two axes of the whole batch; null if a size of the model is the batch's",
        "peak": "arguments + results not aliased to them + temporaries + code, as the compiler reports them",
    }
    plan["batch"]["largest_rows_per_device"] = largest if search and chip else None
    if wanted_rows > best:
        streams, wanted = streams_that_fit(
            compile_program, rows=wanted_rows, stream_rows=largest // own_streams, capacity=capacity, say=say
        )
        plan["wanted"] = {"batch": wanted_rows * devices, "rows_per_device": wanted_rows, "streams": streams}
        plan["wanted"] |= {"fits": wanted is not None} | (_of_program(wanted, topology) if wanted else {})
    if chip is not None:
        seconds = config["total_samples"] / (program.rows * devices) * plan["roofline"]["step_s"]
        plan["run"] = {
            "samples": config["total_samples"],
            "days": seconds / 86400,
            "chip_hours": seconds / 3600 * topology.num_chips,
        }
    return plan


def _of_program(program: Program, topology: Topology) -> dict[str, Any]:
    """What is told of one compiled step."""
    chip = topology.chip
    memory = ("parameters", "optimizer", "batch", "activations", "code", "peak")
    told: dict[str, Any] = {"per_device": {name: getattr(program, name) for name in memory}}
    told["per_chip"] = {name: size * (chip.devices if chip else 1) for name, size in told["per_device"].items()}
    told["per_step"] = {name: getattr(program, name) for name in ("flops", "model_flops", "loss_flops", "passes")}
    told["per_step"]["loss_share"] = program.loss_flops / max(program.flops, 1)
    told["collectives"] = {kind: dataclasses.asdict(total) for kind, total in sorted(program.collectives.items())}
    told["blocks"] = program.blocks if program.blocks is None else list(program.blocks)
    if chip is not None:
        told["per_chip"]["capacity"] = chip.hbm_bytes
        told["roofline"] = dataclasses.asdict(roofline(program, topology))
    return told


def lines(plan: Mapping[str, Any]) -> list[str]:
    """The plan for people."""
    top, batch = plan["topology"], plan["batch"]
    shown = [f"slice    {top['name']} · {top['chips']:,} chips · {top['devices']:,} devices"]
    if "per_chip" not in plan:
        tried = ", ".join(plan["rows_tried"])
        return [*shown, f"memory   does not fit; rows a device tried: {tried}; raise --config.mesh.fsdp or remat"]
    shown += _lines_of_program(plan)
    shown.append(
        f"batch    {batch['rows_per_device']:,} rows a device"
        + ("" if plan["fits_as_configured"] else " (the configured ones do not fit)")
        + (f" · largest that fits {batch['largest_rows_per_device']:,}" if batch.get("largest_rows_per_device") else "")
    )
    if "run" in plan:
        run = plan["run"]
        shown.append(
            f"run      {run['samples']:,} samples: {run['days']:.2f} days, {run['chip_hours']:,.1f} chip-hours"
        )
    if "wanted" in plan:
        wanted = plan["wanted"]
        shown.append(f"wanted   {wanted['batch']:,} rows, {wanted['rows_per_device']:,} a device")
        if wanted["fits"]:
            shown += [f"         in {wanted['streams']:,} streams:", *_lines_of_program(wanted)]
        else:
            shown.append(
                f"         not in {wanted['streams']:,} streams; less memory for the loss: --config.loss.impl=ring "
                "--config.loss.chunk_rows=256"
            )
    return shown


def _lines_of_program(told: Mapping[str, Any]) -> list[str]:
    gib = {name: size / GIB for name, size in told["per_chip"].items()}
    of = f" of {gib['capacity']:.0f}" if "capacity" in gib else ""
    step = told["per_step"]
    shown = [
        f"memory   a chip, GiB: parameters {gib['parameters']:.3f} · optimizer {gib['optimizer']:.3f} · "
        f"activations {gib['activations']:.3f} · peak {gib['peak']:.3f}{of}",
        f"compute  {step['flops'] / 1e12:.2f} TFLOP a step, {step['loss_share']:.2%} of it in the loss",
    ]
    block = "whole batch against itself"
    if told["blocks"] is None:
        shown.append(f"loss     a block of the {block} cannot be told from the model, which has a size of the batch")
    else:
        shown.append(f"loss     {', '.join(told['blocks']) or 'nothing'} on a device holds the {block}")
    for kind, total in told["collectives"].items():
        shown.append(f"network  {kind:18s} {total['count']:>5,} x  {total['bytes'] / 2**20:>10,.1f} MiB a device")
    if "roofline" in told:
        line = told["roofline"]
        shown.append(
            f"time     at least {line['step_s'] * 1e3:.1f} ms a step (compute {line['compute_s'] * 1e3:.1f}, memory "
            f"{line['memory_s'] * 1e3:.1f}, interconnect {line['interconnect_s'] * 1e3:.1f}) · MFU at most "
            f"{line['mfu']:.0%}, bound by {line['bound']}"
        )
    return shown
