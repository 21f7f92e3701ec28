"""The least time of a step: the longest of computing, reading memory, and sending over the interconnect.

An estimate from published peaks, optimistic: the three are taken to overlap fully and each to run at its peak.
Computing counts the passes of a matrix unit (`flops.py`): the float32 products of the loss take six.
"""

from __future__ import annotations

import dataclasses

from ecommerce_vl.planning.program import Program
from ecommerce_vl.planning.topology import Topology


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of one step, which of them binds, and the MFU (model FLOPs over peak, without recomputation)."""

    compute_s: float
    memory_s: float
    interconnect_s: float
    step_s: float
    bound: str
    mfu: float


def roofline(program: Program, topology: Topology) -> Roofline:
    """The roofline of a program on a slice with published peaks."""
    chip, chips = topology.chip, topology.num_chips
    # A device sends half of what its chip moves, since both directions are published as one figure.
    send_bytes_per_s = chip.ici_bytes_per_s / 2 / chip.devices
    times = {
        "compute": program.passes / (chips * chip.flops),
        "memory": program.hbm_traffic / (chip.hbm_bytes_per_s / chip.devices),
        "interconnect": sum(total.wire_bytes for total in program.collectives.values()) / send_bytes_per_s,
    }
    bound = max(times, key=times.get)
    mfu = program.model_flops / (chips * chip.flops * times[bound])
    return Roofline(*(times[name] for name in ("compute", "memory", "interconnect")), times[bound], bound, mfu)
