"""A published model as it is, without training: what a run on one's own catalog must beat.

Invariant: it goes through the same `Encoder` as a trained run, so that both are measured alike. A model of one modality
has no vectors of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from ecommerce_vl.data.images import ImagePipeline
from ecommerce_vl.data.tokenizer import load_tokenizer, tokenizer_digest
from ecommerce_vl.encoder import Encoder, content_hash, text_of
from ecommerce_vl.errors import UserError
from ecommerce_vl.models.dual import DualEncoder
from ecommerce_vl.systems.encoders import VIEWS, dual_encoder, embed_dual
from ecommerce_vl.training.checkpoint import digests
from ecommerce_vl.training.initial import overlay
from ecommerce_vl.training.sharding import by_path
from ecommerce_vl.training.state import init_params
from ecommerce_vl.weights import Folder, initial, merged, read_json

MAX_LENGTH = 64  # tokens of a text where the model leaves it open: titles are short
SENTENCE_POOL = "1_Pooling/config.json"  # of sentence-transformers


class ZeroShot:
    """What `Encoder` needs of a system, for towers of a folder.

    Args:
      config: with "image", "text" or both, and "embed_dim".
    """

    views = VIEWS
    fusion = "norm(image + text)"

    def __init__(self, config: Mapping[str, Any], *, vocab_size: int):
        self.config, self.vocab_size = config, vocab_size

    def build(self, rngs: nnx.Rngs) -> DualEncoder:
        """The towers that the folder has."""
        return dual_encoder(self.config, vocab_size=self.vocab_size, rngs=rngs)

    def embed(self, model: DualEncoder, batch, views: tuple[str, ...]) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of each view; zeros of a modality that the model cannot read."""
        return embed_dual(model, batch, views)


def from_pretrained(folder: str | Path, *, max_length: int | None = None, log: Callable = print) -> Encoder:
    """The encoder of a folder of Hugging Face: BERT, ViT, CLIP, SigLIP or SigLIP 2.

    Args:
      folder: a path, or an id of the hub where there is a network.
      max_length: tokens of a text; by default what the model was trained with, of BERT 64 at most.

    Errors: UserError with what the folder lacks, or what of it does not fit.
    """
    source = Folder(folder)
    tensors = source.tensors()
    parts = source.family.config
    config: dict[str, Any] = {"init": {}, "seed": 0, "system": source.kind, "size": source.path.name}
    config |= {"dtype": "float32", "temperature_init": 1.0}
    evaluated = {"drop_path": 0.0, "remat": "none"}
    if "image" in parts:
        pictures = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": "stretch", "interpolation": "bilinear"}
        pictures |= source.preprocessing()
        defaults = {"pool": "cls", "projection": "linear" if "dual" in parts else "none"}
        config["image"] = merged(evaluated | defaults, parts["image"]) | {"size": 224} | pictures
    if "text" in parts:
        defaults = {"pool": _sentence_pool(source.path), "projection": "linear" if "dual" in parts else "none"}
        config["text"] = merged(evaluated | defaults, parts["text"])
        config["text"]["max_length"] = _max_length(source, tensors, max_length)
    config = merged(config, parts.get("dual", {}))
    part = "dual" if "dual" in parts else next(iter({"image", "text"} & set(parts)))
    config["init"] = {part: str(source.path)}
    config.setdefault("embed_dim", config.get("text", config.get("image"))["width"])

    tokenizer, digest = None, ""
    if "text" in config:
        tokenizer = load_tokenizer(source.path, max_length=config["text"]["max_length"])
        digest = tokenizer_digest(source.path)
    system = ZeroShot(config, vocab_size=tokenizer.vocab_size if tokenizer else 0)
    params = jax.jit(lambda: init_params(system, seed=0))()
    given = initial(config, {path: leaf.shape for path, leaf in by_path(params).items()}, log=log)
    params = overlay(params, given)
    pictures = config.get("image", {"size": 1, "mean": (0.0,) * 3, "std": (1.0,) * 3})
    return Encoder(
        config,
        system=system,
        params=params,
        pipeline=ImagePipeline.of(pictures),
        tokenizer=tokenizer,
        text=text_of(digest, config) if tokenizer else {},
        digest=content_hash(digests({"params": params})),
        given=lambda: given,
    )


def _max_length(source: Folder, tensors: Mapping[str, np.ndarray], wanted: int | None) -> int:
    """Rows of the table of positions that texts have; those of BERT are many more than titles need."""
    key = next(key for key in tensors if "vision" not in key and "position_embedding" in key and key.endswith("weight"))
    rows = len(tensors[key])
    length = wanted or (min(rows, MAX_LENGTH) if source.kind == "bert" else rows)
    if length > rows:
        raise UserError(f"max_length is {length}; expected at most {rows}, the positions of {source.path}")
    return length


def _sentence_pool(folder: Path) -> str:
    """ "cls" where a sentence-transformers folder says so; else "mean", which its models mostly are trained with."""
    file = folder / SENTENCE_POOL
    return "cls" if file.exists() and read_json(file).get("pooling_mode_cls_token") else "mean"
