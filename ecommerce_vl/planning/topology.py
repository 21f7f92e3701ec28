"""Chips as data, and the devices of a named slice that need not exist."""

from __future__ import annotations

import dataclasses
import math
import os
import re

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from ecommerce_vl.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published peaks of one chip.

    Args:
      hbm_bytes: memory.
      flops: a second, dense bfloat16.
      hbm_bytes_per_s: memory bandwidth.
      ici_bytes_per_s: to all neighbours together, both directions added.
      devices: JAX devices a chip.
      axes: of its torus.
      source: where the figures come from.
    """

    hbm_bytes: float
    flops: float
    hbm_bytes_per_s: float
    ici_bytes_per_s: float
    devices: int
    axes: int
    source: str


# Opened 2026-11; GBps is 1e9 bytes a second, GB of memory GiB. The page of v5e exists with 819 GBps and with 800 GiBps.
_DOCS = "https://docs.cloud.google.com/tpu/docs/"
CHIPS = {
    "v5e": Chip(16 * GIB, 197e12, 819e9, 400e9, 1, 2, _DOCS + "v5e"),
    "v5p": Chip(95 * GIB, 459e12, 2765e9, 1200e9, 1, 3, _DOCS + "v5p"),
    "v6e": Chip(32 * GIB, 918e12, 1638e9, 800e9, 1, 2, _DOCS + "v6e"),
    "tpu7x": Chip(192 * GIB, 2307e12, 7380e9, 1200e9, 2, 3, _DOCS + "tpu7x"),
}
MIN_CHIPS, MAX_CHIPS = 4, 1024
EXAMPLES = {2: "16x16", 3: "4x4x8"}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: its chip (None for local devices, whose peaks nobody publishes) and its JAX devices."""

    name: str
    chip: Chip | None
    devices: tuple

    @property
    def num_chips(self) -> int:
        return len(self.devices) // (self.chip.devices if self.chip else 1)


def parse(name: str) -> tuple[str, tuple[int, ...]]:
    """("v5e", (16, 16)) of "v5e:16x16", or ("local", (8,)) of "local:8".

    Errors: UserError for an unknown chip, the wrong number of axes, or a slice of too few or too many chips.
    """
    kind, _, layout = name.lower().partition(":")
    if kind not in CHIPS and kind != "local":
        raise UserError(
            f"--topology is {name!r}; expected one of {', '.join(CHIPS)} with a layout, such as v5e:16x16, or local:N"
        )
    axes = 1 if kind == "local" else CHIPS[kind].axes
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", layout) or layout.count("x") + 1 != axes:
        example = "local:8" if kind == "local" else f"{kind}:{EXAMPLES[axes]}"
        raise UserError(f"--topology is {name!r}; expected {axes} sizes, such as {example}")
    sizes = tuple(map(int, layout.split("x")))
    if kind != "local" and not MIN_CHIPS <= math.prod(sizes) <= MAX_CHIPS:
        raise UserError(f"--topology is {name!r}, {math.prod(sizes)} chips; expected {MIN_CHIPS} to {MAX_CHIPS:,}")
    return kind, sizes


def prepare_environment(name: str) -> None:
    """What must be set before JAX starts a backend: no accelerator of this machine is touched."""
    kind, sizes = parse(name)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nothing is run, so nothing is to be locked
    if kind == "local":
        jax.config.update("jax_num_cpu_devices", sizes[0])


def open_topology(name: str) -> Topology:
    """The devices of a slice, from the TPU compiler, or of this machine.

    Errors: UserError if libtpu is missing or refuses the layout, or there are fewer local devices.
    """
    kind, sizes = parse(name)
    if kind == "local":
        if jax.device_count() < sizes[0]:
            raise UserError(f"--topology is {name!r}, but this machine shows {jax.device_count()} devices; name fewer")
        return Topology(name, None, tuple(jax.devices()[: sizes[0]]))
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(topology_name=f"{kind}:{'x'.join(map(str, sizes))}", platform="tpu")
    except Exception as error:  # the plugin raises several kinds
        if "libtpu" in str(error) or "Unable to load" in str(error) or isinstance(error, ImportError):
            raise UserError(f"--topology={name} needs the TPU compiler; pip install 'ecommerce_vl[plan]'") from error
        raise UserError(f"--topology is {name!r}, which the TPU compiler refuses: {str(error)[:160]}") from error
    return Topology(name, CHIPS[kind], tuple(found.devices))


def plan_mesh(topology: Topology, *, data: int, fsdp: int) -> Mesh:
    """The mesh that `training/mesh.py` makes, over devices that are not here; fsdp neighbours are innermost.

    Errors: UserError if the axes do not cover all devices.
    """
    count = len(topology.devices)
    data = count // fsdp if data == -1 else data
    if data * fsdp != count:
        raise UserError(
            f"config.mesh is data={data} x fsdp={fsdp}, but {topology.name} has {count} devices; "
            "set --config.mesh.data=-1 and an fsdp that divides them"
        )
    devices = np.array(topology.devices).reshape(data, fsdp)
    return Mesh(devices, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
