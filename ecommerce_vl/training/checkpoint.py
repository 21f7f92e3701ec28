"""Checkpoints: one unit of state, saved atomically, verified when it is read.

Orbax keeps no checksums and restores flipped bits silently, so every array travels with a digest of its bits. The
digest is a sum over elements, computed on the devices where the array lies: it is the same for every sharding and
moves no data. The description beside the arrays carries a digest of itself. Invariants: a restore yields exactly what
was saved, or names what differs; a damaged checkpoint is passed over for the one before it, and said so. Orbax appears
in this file only.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from ecommerce_vl.errors import UserError
from ecommerce_vl.training.sharding import by_path


def array_digest(array: jax.Array) -> jax.Array:
    """64 bits of an array's contents and order, as two uint32; any single flipped bit changes both.

    Each element's bits are mixed with its flat index by a bijection, then all are added modulo 2^32.
    """
    width = array.dtype.itemsize
    bits = array.astype(jnp.uint8) if array.dtype == jnp.bool_ else array
    bits = jax.lax.bitcast_convert_type(bits, {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[width]).astype(jnp.uint32)
    index = jnp.zeros((), jnp.uint32)
    for axis, size in enumerate(bits.shape):
        index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    return jnp.stack([_mix(bits ^ _mix(index + jnp.uint32(salt))).sum(dtype=jnp.uint32) for salt in (1, 0x9E3779B9)])


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 that spreads every bit over all (the finaliser of MurmurHash3)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


@jax.jit
def _digests(tree: Any) -> Any:
    return jax.tree.map(array_digest, tree)


def digests(tree: Any) -> dict[str, str]:
    """Path -> digest (16 hex digits) of every array of a tree."""
    found = by_path(jax.device_get(_digests(tree)))
    return {path: f"{int(pair[0]):08x}{int(pair[1]):08x}" for path, pair in found.items()}


def _shapes(tree: Any) -> dict[str, str]:
    """Path -> shape and type as text, such as "(64, 16) float32"."""
    return {path: f"{tuple(leaf.shape)} {leaf.dtype}" for path, leaf in by_path(tree).items()}


def meta_digest(meta: Mapping[str, Any]) -> str:
    """SHA-256 of a description as canonical JSON, its own digest left out."""
    content = {name: item for name, item in meta.items() if name != "meta_digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# Replicas share the writing of an array by slicing it, and each slice of each shape is a program to compile, ten
# seconds for a hundred small arrays, before the first save (2026-11). Slices below this size are left to one replica.
SLICE_BYTES = 1 << 20


class DamagedCheckpoint(Exception):
    """A checkpoint that cannot be read, or that holds other bits than were saved."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: made if missing.
      keep: how many of the latest to keep.
      log: receives a line a human should read.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2, log: Callable[[str], None] = print):
        self.folder, self.log = Path(folder).absolute(), log
        arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=SLICE_BYTES)
        registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(type_handler_registry=registry),
                "meta": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True),
        )

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, *, meta: Mapping[str, Any]) -> None:
        """Writes a checkpoint; on accelerators the writing goes on while training continues.

        Errors: OSError (ENOSPC) if the disk has no room for it; RuntimeError if orbax skips the save, which it does
        silently for a step that is not new.
        """
        self._check_space(state)
        meta = {**meta, "step": step, "digests": digests(state), "shapes": _shapes(state)}
        meta = json.loads(json.dumps(meta))  # as it will be read back: tuples are lists
        meta["meta_digest"] = meta_digest(meta)
        args = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta))
        if not self._manager.save(step, args=args, force=True):
            raise RuntimeError(f"the checkpoint of step {step} was not written; found steps {self.steps()}")
        if jax.default_backend() == "cpu":
            # The arrays of the CPU backend are written from where they lie, and the next step reuses that memory.
            self.wait()

    def _check_space(self, state: Any) -> None:
        # Checked before, since orbax's threads would each print a traceback of their own.
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if shutil.disk_usage(self.folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self.wait()
        self._manager.close()

    def meta(self, step: int) -> dict[str, Any]:
        """What was saved beside the arrays, verified.

        Errors: DamagedCheckpoint; MemoryError and PermissionError, which say nothing about the checkpoint.
        """
        try:
            # The manager would wait here for all processes to ask, and a process may ask alone.
            meta = ocp.JsonCheckpointHandler().restore(self.folder / str(step) / "meta", args=ocp.args.JsonRestore())
            sound = meta["meta_digest"] == meta_digest(meta) and meta["step"] == step
        except (MemoryError, PermissionError):
            raise
        except Exception as error:  # orbax, tensorstore and json raise many kinds, and any of them means the same
            _reraise_if_not_damage(error)
            raise DamagedCheckpoint(f"unreadable description ({type(error).__name__})") from error
        if not sound:
            raise DamagedCheckpoint("its description is not the one that was saved")
        return meta

    def newest_meta(self) -> dict[str, Any] | None:
        """The newest sound description, or None; cheap, since it reads no arrays."""
        for step in reversed(self.steps()):
            try:
                return self.meta(step)
            except DamagedCheckpoint:
                continue  # restore_latest names it
        return None

    def restore(self, step: int, abstract_state: Any, *, partial: bool = False) -> tuple[Any, dict[str, Any]]:
        """The state of one step, verified, on the shardings of `abstract_state`, and what was saved beside it.

        Args:
          partial: `abstract_state` may leave out parts of the unit, such as the optimizer's.

        Errors: UserError if leaves differ in name, shape or type; DamagedCheckpoint; MemoryError and PermissionError,
        which say nothing about the checkpoint.
        """
        meta = self.meta(step)
        _compare_names(abstract_state, meta, step=step, partial=partial)
        try:
            args = ocp.args.PyTreeRestore(
                abstract_state,
                restore_args=ocp.checkpoint_utils.construct_restore_args(abstract_state),
                partial_restore=partial,
            )
            state = self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
        except (MemoryError, PermissionError):
            raise
        except Exception as error:
            _reraise_if_not_damage(error)
            raise DamagedCheckpoint(f"unreadable arrays ({type(error).__name__})") from error
        found = digests(state)
        wrong = sorted(name for name, digest in found.items() if digest != meta["digests"][name])
        if wrong:
            raise DamagedCheckpoint(f"{len(wrong)} damaged arrays, first {wrong[0]}")
        return state, meta

    def restore_latest(self, abstract_state: Any, *, partial: bool = False) -> tuple[Any, dict[str, Any]] | None:
        """The newest sound checkpoint, or None if there is none at all; damaged ones are named and passed over.

        Errors: UserError if checkpoints exist and every one is damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.restore(step, abstract_state, partial=partial)
            except DamagedCheckpoint as error:
                self.log(f"checkpoint {step} in {self.folder} is damaged: {error}; trying the one before it")
        if steps:
            raise UserError(
                f"all {len(steps)} checkpoints in {self.folder} are damaged; restore the folder from a copy, "
                "or remove it to train from the start"
            )
        return None

    def set_aside_after(self, step: int, *, move: bool = True) -> None:
        """Moves checkpoints newer than `step` to `damaged/` beside the folder.

        They are damaged and would block saving those steps again, but what is left of them is the user's to remove.

        Args:
          move: False where another process moves them and this one only has to forget them.
        """
        newer = [other for other in self.steps() if other > step]
        moved = newer if move else []
        aside = self.folder.parent / "damaged"
        for other in moved:
            aside.mkdir(exist_ok=True)
            target, copy = aside / str(other), 1
            while target.exists():
                copy += 1
                target = aside / f"{other}-{copy}"
            (self.folder / str(other)).rename(target)
            self.log(f"checkpoint {other} was moved to {target}")
        if newer:
            self._manager.reload()


def _reraise_if_not_damage(error: Exception) -> None:
    # tensorstore and XLA report these with a status word inside exceptions of their own kinds.
    if "PERMISSION_DENIED" in str(error):
        raise PermissionError(errno.EACCES, str(error)) from error
    if "RESOURCE_EXHAUSTED" in str(error):
        raise MemoryError(str(error)) from error


def _compare_names(abstract_state: Any, meta: Mapping[str, Any], *, step: int, partial: bool) -> None:
    wanted = set(by_path(abstract_state))
    saved = set(meta["digests"])
    missing, unused = sorted(wanted - saved), sorted(saved - wanted)
    other = [
        f"{name} is {meta['shapes'][name]} there and {shape} in the model"
        for name, shape in _shapes(abstract_state).items()
        if name in saved and meta["shapes"][name] != shape
    ]
    if other:
        raise UserError(
            f"checkpoint {step} does not fit the model: {'; '.join(other[:3])}; use the config that made it, "
            "or another --workdir"
        )
    if missing or (unused and not partial):
        raise UserError(
            f"checkpoint {step} does not fit the model: {len(missing)} arrays are not in it "
            f"({', '.join(missing[:3])}), {len(unused)} of its arrays are not in the model ({', '.join(unused[:3])}); "
            "use the config that made it, or another --workdir"
        )
