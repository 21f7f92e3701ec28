"""Where a process stands among those of its run: from flags, else from the cluster's environment."""

from __future__ import annotations

import dataclasses
import os

from ecommerce_vl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process stands.

    Args:
      coordinator: host:port of process 0.
      num_processes, process_id: P, and 0..P-1.
      local_device_ids: accelerators of this host that are this process's; None for all.
    """

    coordinator: str
    num_processes: int
    process_id: int
    local_device_ids: tuple[int, ...] | None = None


def find_place(coordinator: str | None, num_processes: int | None, process_id: int | None) -> Place | None:
    """This process's place from flags, else from the environment (SLURM, GKE, TPU, Open MPI); None for a single one.

    Errors: UserError if some of the three are known and others are not, or they contradict each other.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    device_ids = None
    if None in (coordinator, num_processes, process_id):
        # The detection of jax.distributed.initialize itself, called apart because the roll-call comes before it.
        from jax._src.clusters import ClusterEnv

        given = (coordinator, num_processes, process_id)
        coordinator, num_processes, process_id, device_ids = ClusterEnv.auto_detect_unset_distributed_params(
            coordinator, num_processes, process_id, None, None, 60
        )
        if given == (None, None, None) and (num_processes or 1) == 1:
            return None
    values = {"--coordinator": coordinator, "--num_processes": num_processes, "--process_id": process_id}
    if missing := [name for name, value in values.items() if value is None]:
        raise UserError(
            f"{missing[0]} is missing, and this environment (SLURM, GKE, TPU) does not tell it; "
            "expected all of --coordinator=HOST:PORT --num_processes=P --process_id=I, or none for a single process"
        )
    if not 0 <= process_id < num_processes:
        raise UserError(f"--process_id is {process_id}; expected 0 to {num_processes - 1}, below --num_processes")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65535:
        raise UserError(f"--coordinator is {coordinator!r}; expected HOST:PORT of process 0, such as 10.0.0.2:1234")
    return Place(coordinator, num_processes, process_id, tuple(device_ids) if device_ids else None)
