"""The device mesh: axes ("data", "fsdp"), both sharding the batch, the second also the parameters."""

from __future__ import annotations

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ecommerce_vl.errors import UserError

AXES = ("data", "fsdp")


def make_mesh(*, data: int, fsdp: int, batch_size: int) -> Mesh:
    """A mesh over all devices.

    Args:
      data: devices along the data axis; -1 takes all that `fsdp` leaves.
      fsdp: devices along which parameters are sharded.
      batch_size: of the global batch; must divide over the devices.

    Errors: UserError if the axes do not cover all devices, or the batch does not divide.
    """
    num_devices = jax.device_count()
    if data == -1:
        data = num_devices // fsdp
    if data * fsdp != num_devices:
        raise UserError(
            f"config.mesh is data={data} x fsdp={fsdp} = {data * fsdp} devices, but there are {num_devices}; "
            "set config.mesh.data=-1 and an fsdp that divides the number of devices"
        )
    if batch_size % num_devices:
        below = batch_size // num_devices * num_devices
        raise UserError(
            f"config.batch_size is {batch_size}, which does not divide over {num_devices} devices; "
            f"expected a multiple of {num_devices}, such as {below or num_devices} or {below + num_devices}"
        )
    # Auto axes, written out: make_mesh gives Explicit ones by default since JAX 0.9.
    return jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over all devices."""
    return NamedSharding(mesh, P(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, P())
