"""Weights in and out: Hugging Face folders (config.json, safetensors, tokenizer.json), to begin a run or to be a model.

`config.init` names folders by what they are for: `text`, `image` (a tower each), `dual` (both, with their projections)
or `joint` (BERT's blocks and words under the joint encoder); or `run`, a run directory of ours to be fine-tuned. What a
folder decides (widths, depth, form of the blocks, tokenizer, how pictures are read) replaces the fields of the config,
once, before a run begins; `image.size` and `text.max_length` stay the config's, but for `run`, and tables of positions
follow. The resolved config lies in the run directory, so that nothing needs the folder later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy, which safetensors needs
import numpy as np
from safetensors import safe_open

from ecommerce_vl.data.tokenizer import load_tokenizer
from ecommerce_vl.errors import UserError
from ecommerce_vl.models.pretrained import FAMILIES
from ecommerce_vl.models.pretrained.family import Family
from ecommerce_vl.models.pretrained.table import Row, convert, restore, under
from ecommerce_vl.systems.encoders import logit_bias
from ecommerce_vl.training.workdir import read_config

PARTS = ("image", "text", "dual", "joint", "run")
# What a run of ours decides for one that begins from it, as far as its system has it.
RUN_FIELDS = ("image", "joint", "embed_dim", "separate_query", "modal_adaptation")
RUN_WORDS = ("max_length", "query_length", "vocab_size")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FILES = ("*.json", "*.safetensors")
BIAS = "logit_bias"  # of a sigmoid loss
CLIP_COLOURS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# What Pillow's numbers of filters mean in a preprocessor_config.json.
FILTERS = {2: "bilinear", 3: "bicubic"}


class Folder:
    """A published model on disk; tensors are read when asked for.

    Attributes:
      path: of the folder.
      family: what config.json says.
      tensors: {key: file}, keys without the family's prefix.
    """

    def __init__(self, name: str | Path):
        self.path = local(name)
        hf = read_json(self.path / "config.json")
        kind = hf.get("model_type")
        if kind not in FAMILIES:
            raise UserError(f"{self.path} holds a model of type {kind!r}; expected one of {', '.join(FAMILIES)}")
        self.kind, self.family = kind, FAMILIES[kind](hf)

    def part(self, part: str) -> dict[str, Any]:
        """Fields of the config that `part` ("image", "text" or "joint") of this model decides.

        Errors: UserError if it has no such part.
        """
        if part not in self.family.config:
            expected = ", ".join(name for name in PARTS if name in self.family.config)
            raise UserError(
                f"config.init.{part} is {str(self.path)!r}, a {self.kind}, which has no such part; it has: {expected}"
            )
        return self.family.config[part]

    def tensors(self) -> dict[str, np.ndarray]:
        """Every tensor by its key, without the family's prefix.

        Errors: UserError without safetensors, or for a file that is damaged.
        """
        index = self.path / INDEX
        names = sorted(set(read_json(index)["weight_map"].values())) if index.exists() else [WEIGHTS]
        found = {}
        for name in names:
            if not (self.path / name).exists():
                raise UserError(
                    f"there is no {name} in {self.path}; expected safetensors, as save_pretrained writes them"
                )
            try:
                with safe_open(self.path / name, "np") as file:
                    found |= {_our_name(key, self.family): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            except Exception as error:  # the library raises its own, which is no OSError
                raise UserError(f"{self.path / name} cannot be read: {error}; download it again") from error
        return found

    def preprocessing(self) -> dict[str, Any]:
        """How pictures are read: `mean`, `std`, `resize`, `interpolation`, and `size` in pixels; {} if it does not say.

        Errors: UserError for a way that we do not have.
        """
        file = self.path / "preprocessor_config.json"
        if not file.exists():
            return {}
        hf = read_json(file)
        hf = hf.get("image_processor", hf)
        filter_number = hf.get("resample", 3 if self.kind in ("clip", "siglip") else 2)
        mean, std = CLIP_COLOURS if self.kind == "clip" else ((0.5,) * 3, (0.5,) * 3)
        if filter_number not in FILTERS:
            raise UserError(f"{file} asks for resampling filter {filter_number}; expected one of {FILTERS}")
        fields = {
            "mean": tuple(hf.get("image_mean") or mean),
            "std": tuple(hf.get("image_std") or std),
            "interpolation": FILTERS[filter_number],
        }
        side = lambda size: size if not isinstance(size, Mapping) else size.get("height") or size.get("shortest_edge")
        size = side(hf.get("size")) or 224
        if not hf.get("do_center_crop", self.kind == "clip"):
            return fields | {"resize": "stretch", "size": size}
        crop = side(hf.get("crop_size")) or size
        return fields | {"resize": "crop", "crop_share": crop / size, "size": crop}


def local(name: str | Path) -> Path:
    """The folder of that path, or of that id on the hub, downloaded where it is not in the cache yet.

    Errors: UserError if it is neither.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        raise UserError(f"there is no folder {str(name)!r}; expected one with config.json, or an id such as org/model")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=FILES))
    except Exception as error:  # of the network, of the hub, of the cache
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"there is no folder {str(name)!r}, and the hub does not give it: {problem}") from error


def read_json(file: Path) -> dict[str, Any]:
    """Errors: UserError if the file is not there or is no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {file}: {error}; expected a folder as transformers' save_pretrained writes it"
        ) from error


def named(config: Mapping[str, Any]) -> dict[str, str]:
    """{part: folder} of what `config.init` names.

    Errors: UserError for parts that exclude each other.
    """
    init = {part: folder for part, folder in (config.get("init") or {}).items() if folder}
    if "run" in (config.get("init") or {}) and "run" not in init:
        raise UserError("config.init.run is ''; expected the run directory to fine-tune: --config.init.run=RUN")
    if unknown := set(init) - set(PARTS):
        raise UserError(f"config.init has {', '.join(sorted(unknown))}; expected {', '.join(PARTS)}")
    for part in ("dual", "joint", "run"):
        if part in init and len(init) > 1:
            raise UserError(
                f"config.init.{part} is set beside {', '.join(sorted(set(init) - {part}))}; expected it alone"
            )
    return init


def resolve(config: Mapping[str, Any], workdir: Path | None = None) -> dict[str, Any]:
    """The config with what its folders decide; as it is without `config.init`.

    A run that has begun in `workdir` knows already, and needs no folder.

    Errors: UserError for a folder that cannot be used.
    """
    init = named(config)
    if not init:
        return dict(config)
    if workdir and (workdir / "config.json").exists() and any((workdir / "checkpoints").glob("[0-9]*")):
        before = read_config(workdir)
        if before.get("init") == dict(config["init"]):
            return merged(config, before["resolved"]) | {"resolved": before["resolved"]}
    decided: dict[str, Any] = {}
    for part, name in init.items():
        found = _of_run(name, config) if part == "run" else _decided(Folder(name), part, config)
        decided = merged(decided, found)
    return merged(config, decided) | {"resolved": decided}


def _of_run(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    before = read_config(Path(name))
    if before["system"] != config["system"]:
        raise UserError(
            f"config.init.run is {name!r}, a run of {before['system']}; expected one of {config['system']}, which "
            "this config trains"
        )
    of = lambda part, fields: {field: part[field] for field in fields if field in part}
    words = of(before["text"], RUN_WORDS) | {"tokenizer": str(Path(name) / "tokenizer")}
    return of(before, RUN_FIELDS) | {"text": words}


def _from_run(name: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The parameters of a run's newest checkpoint that the new one has as well."""
    from ecommerce_vl.encoder import load
    from ecommerce_vl.training.sharding import by_path

    arrays = {path: np.asarray(leaf) for path, leaf in by_path(load(name).params).items()}
    wrong = [path for path, array in arrays.items() if path in shapes and array.shape != shapes[path]]
    if wrong:
        raise UserError(
            f"config.init.run is {name!r}, whose {wrong[0]} is {arrays[wrong[0]].shape}; expected {shapes[wrong[0]]}, "
            "as this config has it"
        )
    return {path: array for path, array in arrays.items() if path in shapes}


def _decided(folder: Folder, part: str, config: Mapping[str, Any]) -> dict[str, Any]:
    decided: dict[str, Any] = {}
    towers = ("image", "text") if part == "dual" else (part,)
    for tower in towers:
        decided[tower] = dict(folder.part(tower))
    if part == "dual":
        decided = merged(decided, folder.part("dual"))
    if "image" in towers:
        pictures = folder.preprocessing()
        pictures.pop("size", None)
        decided = merged(decided, {"image": pictures})
    if {"text", "joint"} & set(towers):
        tokenizer = load_tokenizer(folder.path, max_length=config["text"]["max_length"])
        decided = merged(decided, {"text": {"tokenizer": str(folder.path), "vocab_size": tokenizer.vocab_size}})
    if part == "joint" and "embed_dim" in config and config["embed_dim"] == config["joint"]["width"]:
        decided["embed_dim"] = decided["joint"]["width"]  # where a state is the vector
    return decided


def initial(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], *, log: Callable
) -> dict[str, np.ndarray]:
    """{path: float32 array} of the parameters that `config.init` gives; the others begin at random.

    Args:
      config: resolved.
      shapes: of all parameters, by path.

    Errors: UserError with all that does not fit.
    """
    found: dict[str, np.ndarray] = {}
    for part, name in named(config).items():
        if part == "run":
            found |= _from_run(name, shapes)
            log(f"init     {len(found)} parameters from {name}")
            continue
        folder = Folder(name)
        rows = rows_of(folder.family, part, config)
        wanted = {path: shape for path, shape in shapes.items() if _is_of(path, part, rows)}
        arrays, unused = convert(rows, folder.tensors(), wanted, source=str(folder.path))
        found |= arrays
        log(f"init     {part}: {len(arrays)} parameters from {folder.path}, a {folder.kind}")
        if unused:
            log(f"init     {part}: not used are {', '.join(unused)}")
    if found and (fresh := sorted(set(shapes) - set(found))):
        log(f"init     at random begin {', '.join(fresh)}")
    return found


def restored(config: Mapping[str, Any], params: Any) -> tuple[Folder, dict[str, np.ndarray]]:
    """The folder that a run began with, and its tensors with what the run has made of them.

    Args:
      config: of the run, with `init.dual`.
      params: of the run, nested.

    Errors: UserError for a run that did not begin with a published dual encoder, or whose folder is gone.
    """
    from ecommerce_vl.training.sharding import by_path

    init = named(config)
    if set(init) != {"dual"}:
        given = ", ".join(f"config.init.{part}={name}" for part, name in init.items())
        began = f"with {given}" if given else "at random"
        raise UserError(
            f"--model=hugging_face: this {config['system']} began {began}; expected one with config.init.dual, since "
            "only published dual encoders (CLIP, SigLIP) have classes of transformers; use --model=stablehlo"
        )
    folder = Folder(init["dual"])
    arrays = folder.family.fold({path: np.asarray(leaf) for path, leaf in by_path(params).items()})
    return folder, restore(rows_of(folder.family, "dual", config), arrays, folder.tensors())


def rows_of(family: Family, part: str, config: Mapping[str, Any]) -> tuple[Row, ...]:
    """The tables that fill `part` of a model, with our prefixes."""
    if part == "joint":
        return under("encoder/", family.rows["joint"])
    towers = ("image", "text") if part == "dual" else (part,)
    rows = [row for tower in towers for row in under(f"{tower}/", family.rows[tower])]
    for tower in towers:
        if config[tower]["pool"] == "pooler":
            rows += under(f"{tower}/", family.rows[f"{tower}.pooler"])
    rest = family.rows["dual"] if part == "dual" else ()
    return (*rows, *(row for row in rest if row.ours != BIAS or logit_bias(config) is not None))


def _is_of(path: str, part: str, rows: tuple[Row, ...]) -> bool:
    """Whether a parameter must come from the folder: all of its towers, of the joint encoder what the table knows."""
    if part == "joint":
        return path in {row.ours for row in rows}
    if part == "dual":
        return path != BIAS or any(row.ours == BIAS for row in rows)  # CLIP has none: it begins as ours does
    return path.startswith(f"{part}/")


def merged(config: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping with the leaves of another laid over it."""
    out = dict(config)
    for key, item in over.items():
        nested = isinstance(item, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], item) if nested else item
    return out


def _our_name(key: str, family: Family) -> str:
    """Without the prefix of a model under a head, and with today's names of a norm's arrays."""
    key = key.removeprefix(family.prefix)
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", key))
