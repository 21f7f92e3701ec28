"""The run directory: what a run is made of, written once and compared whenever the run goes on.

config.json      the resolved config          preprocess.json   how pictures are read
tokenizer/       tokenizer.json               checkpoints/      states
metrics.jsonl    tensorboard/                 versions.json     of the packages that started it
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ecommerce_vl.data.images import ImagePipeline
from ecommerce_vl.errors import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers", "pillow")
# Changing these between restarts changes neither the model nor the numbers it is trained to.
FREE = ("data.path", "data.num_workers", "log_every", "checkpoint.", "mesh.")


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


def open_workdir(workdir: Path, config: Mapping[str, Any]) -> None:
    """Makes a run directory, or checks that an existing one was made by the same config.

    Errors: UserError that names every key that differs, both values, and the ways out.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / "config.json"
    resolved = json.loads(json.dumps(config))  # as it will be read back: tuples are lists
    if not file.exists():
        write_json(workdir / "versions.json", versions())
        write_json(file, resolved)
        return
    before, now = dict(flat(json.loads(file.read_text()))), dict(flat(resolved))
    different = [
        f"{key} (there {before.get(key, 'absent')!r}, now {now.get(key, 'absent')!r})"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(FREE)
    ]
    if different:
        raise UserError(
            f"--workdir={workdir} belongs to a run with another config: {', '.join(different[:5])}"
            f"{f' and {len(different) - 5} more' if len(different) > 5 else ''}; "
            "repeat the command of that run, or name another --workdir"
        )


def read_config(workdir: Path) -> dict[str, Any]:
    """The resolved config of a run.

    Errors: UserError if the folder is not a run directory.
    """
    file = Path(workdir) / "config.json"
    if not file.exists():
        raise UserError(
            f"no trained run at {str(workdir)!r}: config.json is missing; "
            "run python -m ecommerce_vl.train --workdir=... first, or check the path"
        )
    return json.loads(file.read_text())


def write_preprocess(workdir: Path, pipeline: ImagePipeline) -> None:
    """Records how pictures are read, for everything that reads them later."""
    write_json(workdir / "preprocess.json", dataclasses.asdict(pipeline))


def read_preprocess(workdir: Path) -> ImagePipeline:
    """The image pipeline of a run."""
    fields = json.loads((Path(workdir) / "preprocess.json").read_text())
    return ImagePipeline(**{name: tuple(item) if isinstance(item, list) else item for name, item in fields.items()})


def write_json(file: Path, content: Any) -> None:
    """Writes a JSON file whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(file)
