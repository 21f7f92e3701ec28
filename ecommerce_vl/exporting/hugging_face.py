"""A trained dual encoder as a folder of transformers: the files of the published model it began with, and its weights.

Only stock classes (CLIPModel, SiglipModel) are written, so that nothing of ours is needed to load the folder: what
serves the published model serves this one. Invariants: the weights come last, so a folder with them is whole; numbers
that the trained model lacks (words that it cannot read) are those of the published one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ecommerce_vl.errors import UserError
from ecommerce_vl.files import fresh_folder, whole_file, write_json

WEIGHTS, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
COPIED = ("*.json", "*.txt", "*.model")  # of the tokenizer, the processor, and how sentence-transformers reads them
NOT_COPIED = ("model.safetensors.index.json",)


def write_folder(
    tensors: Mapping[str, np.ndarray], published: Path, out: Path, *, image_size: int, overwrite: bool = False
) -> None:
    """Writes `out` from the tensors of a trained model, by their keys, and the other files of the published one.

    Args:
      image_size: pixels, of the trained model.

    Errors: UserError if `out` holds a model already, or is the published folder.
    """
    if out.resolve() == published.resolve():
        raise UserError(f"--out={out} is the published model itself; name another folder")
    if (out / WEIGHTS).exists() and not overwrite:
        raise UserError(f"--out={out} holds a model already; name another folder or add --overwrite")
    fresh_folder(out)
    (out / WEIGHTS).unlink(missing_ok=True)
    for file in sorted(file for pattern in COPIED for file in published.glob(pattern)):
        if file.name not in NOT_COPIED:
            shutil.copyfile(file, out / file.name)
    config = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    vision = config.setdefault("vision_config", {})
    if config["model_type"] == "siglip2":  # of any resolution; its table of positions has a size all the same
        vision["num_patches"] = (image_size // vision.get("patch_size", 16)) ** 2
    else:
        vision["image_size"] = image_size
    for name in ("dtype", "torch_dtype"):
        if name in config:
            config[name] = "float32"
    write_json(out / CONFIG, config)
    if (out / PREPROCESSOR).exists():
        write_json(
            out / PREPROCESSOR, _of_size(json.loads((out / PREPROCESSOR).read_text(encoding="utf-8")), image_size)
        )
    with whole_file(out / WEIGHTS) as file:
        # Not ascontiguousarray, which makes a row of a single number.
        save_file({key: np.array(tensor, order="C") for key, tensor in tensors.items()}, file, {"format": "pt"})


def _of_size(processor: dict[str, Any], size: int) -> dict[str, Any]:
    """The processor's settings with pictures of another size; where it crops, its shorter side in proportion."""
    inner = processor.get("image_processor", processor)
    side = lambda value: value if not isinstance(value, Mapping) else value.get("height") or value.get("shortest_edge")
    before = side(inner.get("crop_size")) or side(inner.get("size")) or size
    for name in ("size", "crop_size"):
        if name in inner:
            changed = round(side(inner[name]) * size / before)
            value = inner[name]
            inner[name] = dict.fromkeys(value, changed) if isinstance(value, Mapping) else changed
    return processor
