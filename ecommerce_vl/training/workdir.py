"""The run directory: what a run is made of, written once and compared whenever the run goes on.

Invariant: config.json is written after everything else of a start, so where it lies the rest belongs to it.

config.json      the resolved config          preprocess.json   how pictures are read
data.json        fingerprint of the data      damaged/          checkpoints that were passed over
tokenizer/       tokenizer.json               checkpoints/      states
metrics.jsonl    tensorboard/                 versions.json     of the packages that started it
profile/         a trace of some steps, where one was asked for
initial.safetensors  parameters that were given at the start, where some were
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ecommerce_vl.data.images import ImagePipeline
from ecommerce_vl.errors import UserError
from ecommerce_vl.files import write_json
from ecommerce_vl.training.earlier import of_today

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers", "pillow")
# Changing these between restarts changes neither the model nor the numbers it is trained to.
FREE = ("data.path", "data.num_workers", "log_every", "checkpoint.", "evaluate.", "mesh.", "streams", "profile")


def versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("a.b.c", value) of every leaf of a nested mapping."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@contextlib.contextmanager
def naming_the_key(config: Mapping[str, Any]) -> Iterator[None]:
    """Turns a ValueError that begins with a key of the config, or with its end, into a UserError with the whole key.

    Any other is a defect of ours, and stays.
    """
    try:
        yield
    except ValueError as error:
        word, _, rest = str(error).partition(" ")
        values = {key: value for key, value in flat(config) if f".{key}".endswith(f".{word}")}
        if not values:
            raise
        # Several parts may have a key of one name: meant is the one with the value that was found.
        told = [key for key, value in values.items() if rest.startswith(f"is {value!r};")]
        raise UserError(f"config.{(told or list(values))[0]} {rest}") from error


def open_workdir(workdir: Path, config: Mapping[str, Any], *, fingerprint: str, has_checkpoint: bool) -> bool:
    """Makes a run directory, or checks that an existing one was made by the same config and data.

    A directory without a checkpoint holds nothing worth keeping: where config or data differ, it is emptied.

    Args:
      fingerprint: of the prepared data.
      has_checkpoint: the directory has a committed checkpoint.

    Returns: whether the directory goes on, so that its tokenizer is the run's.

    Errors: UserError that names every key that differs, both values, and the ways out.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    file, data_file = workdir / "config.json", workdir / "data.json"
    if not file.exists():
        return has_checkpoint
    different = _differences(read_config(workdir), config)
    found = json.loads(data_file.read_text(encoding="utf-8"))["fingerprint"] if data_file.exists() else None
    if not has_checkpoint:
        if different or found != fingerprint:
            _empty(workdir)
            return False
        return True
    if different:
        raise UserError(
            f"--workdir={workdir} belongs to a run with another config: {', '.join(different[:5])}"
            f"{f' and {len(different) - 5} more' if len(different) > 5 else ''}; "
            "repeat the command of that run, or name another --workdir"
        )
    if found is not None:
        check_fingerprint(found=fingerprint, expected=found)
    return True


def check_fingerprint(*, found: str, expected: str) -> None:
    """Errors: UserError if the data is not that of the run."""
    if found != expected:
        raise UserError(
            f"the data has changed since this run began (fingerprint {found[:12]}, expected {expected[:12]}); "
            "point --config.data.path at the original data, or name another --workdir"
        )


def check_tokenizer(workdir: Path, *, found: str, expected: str) -> None:
    """Errors: UserError if the tokenizer of the directory is not that of the checkpoint, by their digests."""
    if found != expected:
        raise UserError(
            f"{workdir}/tokenizer is not the one that the checkpoint was trained with (digest {found[:12]}, expected "
            f"{expected[:12]}); put the original tokenizer.json back, or name another --workdir"
        )


def write_identity(workdir: Path, config: Mapping[str, Any], *, fingerprint: str) -> None:
    """Records whose directory this is; only once the start can no longer fail, and config.json last."""
    write_json(workdir / "versions.json", versions())
    write_json(workdir / "data.json", {"fingerprint": fingerprint})
    write_json(workdir / "config.json", config)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    # As it will be read back: tuples are lists.
    before, now = dict(flat(before)), dict(flat(json.loads(json.dumps(now))))
    return [
        f"{key} (there {before.get(key, 'absent')!r}, now {now.get(key, 'absent')!r})"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(FREE)
    ]


def _empty(workdir: Path) -> None:
    # config.json first: without it nothing of the rest is taken for this run's, however far this gets.
    for name in (
        "config.json",
        "data.json",
        "versions.json",
        "preprocess.json",
        "metrics.jsonl",
        "initial.safetensors",
    ):
        (workdir / name).unlink(missing_ok=True)
    for name in ("tokenizer", "tensorboard", "profile"):
        shutil.rmtree(workdir / name, ignore_errors=True)


def read_config(workdir: Path) -> dict[str, Any]:
    """The resolved config of a run, under the names of today.

    Errors: UserError if the folder is not a run directory.
    """
    file = Path(workdir) / "config.json"
    if not file.exists():
        raise UserError(
            f"no trained run at {str(workdir)!r}: config.json is missing; "
            "run python -m ecommerce_vl.train --workdir=... first, or check the path"
        )
    return of_today(json.loads(file.read_text(encoding="utf-8")))


def write_preprocess(workdir: Path, pipeline: ImagePipeline) -> None:
    """Records how pictures are read, for everything that reads them later."""
    write_json(workdir / "preprocess.json", dataclasses.asdict(pipeline))


def read_preprocess(workdir: Path) -> ImagePipeline:
    """The image pipeline of a run."""
    fields = json.loads((Path(workdir) / "preprocess.json").read_text(encoding="utf-8"))
    return ImagePipeline(**{name: tuple(item) if isinstance(item, list) else item for name, item in fields.items()})
