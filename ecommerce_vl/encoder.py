"""The public face of a trained run: `vl.load(RUN)` and vectors of products, pictures and words.

Evaluation, export, search and the notebooks use exactly this, so what was evaluated is what is served. Invariants:
rows come back in the order given; a vector has unit L2 norm or is absent (NaN), never zeros; the result of a row does
not depend on the others in the call.
"""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from PIL import Image

from ecommerce_vl.data.images import ImageDefect, ImagePipeline, to_rgb
from ecommerce_vl.data.product_ids import NO_ID, id_row
from ecommerce_vl.data.tokenizer import TextTokenizer, load_tokenizer, tokenizer_digest
from ecommerce_vl.errors import UserError
from ecommerce_vl.inputs import check_list, inputs_of
from ecommerce_vl.systems import build_system
from ecommerce_vl.training import initial
from ecommerce_vl.training import workdir as workdirs
from ecommerce_vl.training.checkpoint import Checkpoints, DamagedCheckpoint, digests
from ecommerce_vl.training.finetune import fine_tune_classifier
from ecommerce_vl.training.state import define_model, init_params

ImageLike = bytes | str | os.PathLike | Image.Image
BATCH_SIZE = 256
NO_DATA: Mapping[str, Any] = {"fingerprint": ""}


def load(workdir: str | Path, *, step: int | None = None, log: Callable[[str], None] = print) -> Encoder:
    """The encoder of a run's newest sound checkpoint, on the first device of this process.

    Args:
      workdir: written by `python -m ecommerce_vl.train`.
      step: of the checkpoint to read instead of the newest.
      log: receives a line for every damaged checkpoint that is passed over.

    Errors: UserError if there is no run, no checkpoint, or its tokenizer is not the one it was trained with.
    """
    workdir = Path(workdir)
    config = workdirs.read_config(workdir)
    untrained = f"no checkpoint in {workdir}; train it first: python -m ecommerce_vl.train --workdir={workdir}"
    if not (workdir / "checkpoints").is_dir():
        raise UserError(untrained)
    checkpoints = Checkpoints(workdir / "checkpoints", log=log)
    tokenizer = load_tokenizer(workdir / "tokenizer", max_length=config["text"]["max_length"])
    system = build_system(config, vocab_size=tokenizer.vocab_size, special_ids=tokenizer.special_ids)
    _, abstract = define_model(system)
    here = NamedSharding(jax.sharding.Mesh(np.array(jax.local_devices()[:1]), ("data",)), P())
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), abstract)
    try:
        restored = (
            checkpoints.restore_latest({"params": abstract}, partial=True)
            if step is None
            else checkpoints.restore(step, {"params": abstract}, partial=True)
        )
    except DamagedCheckpoint as error:
        raise UserError(
            f"no sound checkpoint of step {step} in {workdir} ({error}); newer ones may have replaced it: "
            "name a step that is there, or none for the newest"
        ) from error
    checkpoints.close()
    if restored is None:
        raise UserError(untrained)
    state, meta = restored
    token_digest = tokenizer_digest(workdir / "tokenizer")
    workdirs.check_tokenizer(workdir, found=token_digest, expected=meta["tokenizer"])
    return Encoder(
        config,
        system=system,
        params=state["params"],
        pipeline=workdirs.read_preprocess(workdir),
        tokenizer=tokenizer,
        text=text_of(token_digest, config),
        digest=content_hash({name: d for name, d in meta["digests"].items() if name.startswith("params/")}),
        step=meta["step"],
        data=meta["data"],
        given=partial(initial.kept, workdir),
    )


class Encoder:
    """Turns products, pictures and words into unit vectors of one space.

    Attributes:
      config: the resolved config of the run.          step: optimizer updates of the checkpoint.
      dim: D.                                          digest: of the parameters.
      space_id: changes if and only if vectors are not comparable.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        system,
        params: Any,
        pipeline: ImagePipeline,
        tokenizer: TextTokenizer | None,
        text: Mapping[str, Any],
        digest: str,
        step: int = 0,
        data: Mapping[str, Any] = NO_DATA,
        given: Callable[[], Mapping[str, np.ndarray]] = dict,
    ):
        """See `load` and `zero_shot.from_pretrained`, which make them.

        Args:
          system: with `.build` and `.embed`, of `config`.
          params: its nested dictionary of arrays.
          tokenizer: None if it reads no words.
          text: what of reading words decides the space: digest of the tokenizer, length, template.
          given: {path: array} of the parameters that did not begin at random.
        """
        self.config, self.batch_size, self.params, self.step = config, BATCH_SIZE, params, step
        self.pipeline, self.tokenizer, self.text, self.data, self.digest = pipeline, tokenizer, text, data, digest
        length = config.get("text", {}).get("query_length")
        self._query_tokenizer = tokenizer.of_length(length) if length else None
        self._id_rows = config.get("data", {}).get("id_rows", 0)
        self.dim, self.name = config["embed_dim"], f"{config['system']}-{config['size']}"
        self.preprocess = json.loads(json.dumps(dataclasses.asdict(pipeline)))
        self.fusion = {"kind": system.fusion, "missing": "the other one"}
        self._system, self._given = system, given
        graphdef, _ = define_model(system)
        self._embed = jax.jit(
            lambda params, batch, views: system.embed(nnx.merge(graphdef, params), batch, views),
            static_argnames="views",
        )

    @property
    def reads_both(self) -> bool:
        """Whether a picture and words are read in one pass, by one encoder."""
        return self.fusion["kind"] == "joint encoder"

    @property
    def modalities(self) -> tuple[str, ...]:
        """ "image", "text" or both: what it reads; it has no vectors of anything else."""
        return tuple(name for name in ("image", "text") if name in self.config)

    @property
    def trained_on(self) -> dict[str, Any] | None:
        """Fingerprint of the data of the run and the fraction of its train split; None for a published model."""
        if not self.data["fingerprint"]:
            return None
        return {"fingerprint": self.data["fingerprint"], "fraction": self.config["data"].get("fraction", 1.0)}

    @property
    def space_id(self) -> str:
        return content_hash([self.digest, self.preprocess, self.text, self.fusion])[:16]

    def untrained(self) -> Encoder:
        """The same encoder with the parameters that its run began with: what training is compared to."""
        other = copy.copy(self)
        drawn = jax.jit(lambda: init_params(self._system, seed=self.config["seed"]))()
        other.params, other.step = initial.overlay(drawn, self._given()), 0
        other.digest = content_hash(digests({"params": other.params}))
        return other

    def embed_products(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """One vector (N,D) float32 a product, from its main picture and its title, or from the one that there is.

        Args:
          records: mappings with `title` (string, may be missing) and a picture under `images` (list), `image` or
            `image_link`: encoded bytes, a path, or a PIL image; and `id`, where the run embeds ids: one that it was not
            trained with, or none, leaves the content alone.

        A product without either has a row of NaN; a picture whose bytes are damaged counts as none.

        Errors: UserError for a path where there is no file; TypeError for anything but a list of mappings.
        """
        return self._run(**inputs_of(records), views=("product",))["product"]

    def embed_views(self, records: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Vectors (N,D) of the views "image", "text" and "product" in one pass; NaN where the modality is absent."""
        return self._run(**inputs_of(records), views=("image", "text", "product"))

    def embed_images(self, images: Sequence[ImageLike]) -> np.ndarray:
        """One vector (N,D) float32 a picture: encoded bytes, a path, or a PIL image.

        Errors: UserError that names the first picture that cannot be read.
        """
        vectors = self._run(images, [""] * len(images), views=("image",), strict=True)
        return vectors["image"]

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """One vector (N,D) float32 a text; NaN for an empty one.

        Errors: TypeError for a text in place of a list of texts.
        """
        check_list(texts)
        return self._run([None] * len(texts), list(texts), views=("text",))["text"]

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """One vector (N,D) float32 a search query, by the query tower; NaN for an empty one.

        A system without a query tower reads queries as it reads titles.
        """
        check_list(texts)
        if self._query_tokenizer is None:
            return self.embed_texts(texts)
        out = np.full((len(texts), self.dim), np.nan, np.float32)
        for start in range(0, len(texts), self.batch_size):
            chunk = list(texts[start : start + self.batch_size])
            num_rows = _padded(len(chunk), most=self.batch_size)
            ids, mask = self._query_tokenizer([*chunk, *[""] * (num_rows - len(chunk))])
            batch = {"text_ids": ids, "text_mask": mask, "has_text": mask.any(axis=1)}
            vectors = jax.device_get(self._embed(self.params, batch, ("query",))["query"])[: len(chunk)]
            shown = batch["has_text"][: len(chunk)]
            if not np.isfinite(vectors[shown]).all():
                raise RuntimeError("the query tower gives vectors that are not finite; the run has diverged")
            out[start : start + len(chunk)] = np.where(shown[:, None], vectors, np.nan)
        return out

    def fine_tune(
        self,
        view: str,
        *,
        train: tuple[Sequence[Mapping[str, Any]], np.ndarray],
        validation: tuple[Sequence[Mapping[str, Any]], np.ndarray],
        test: Sequence[Mapping[str, Any]],
        num_classes: int,
        log: Callable[[str], None] = print,
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Class scores (N,C) float64 of `test` from a copy of the encoder trained on with a linear head over `view`.

        See `training/finetune.py`; the encoder itself stays as it is.
        """
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return fine_tune_classifier(
                lambda params, batch: self._embed(params, batch, (view,))[view],
                self.params,
                lambda records: self._batch(**inputs_of(records), pool=pool, strict=False),
                train=train,
                validation=validation,
                test=test,
                num_classes=num_classes,
                dim=self.dim,
                log=log,
            )

    def embed_composed(
        self, images: Sequence[ImageLike], texts: Sequence[str], *, text_weight: float | None = None
    ) -> np.ndarray:
        """One vector (N,D) float32 for each picture and the words beside it: this product, but as the words say.

        A joint encoder reads the picture and the words in one pass, as it reads a product. Of two towers it is
        norm(image + lambda text).

        Args:
          images, texts: as in `embed_images` and `embed_texts`; where a text is empty, the picture is all.
          text_weight: lambda, 1 by default; of two towers only.

        Errors: UserError that names the first picture that cannot be read; ValueError for a `text_weight` where a
          joint encoder has none.
        """
        if self.reads_both:
            if text_weight is not None:
                raise ValueError(f"text_weight is {text_weight}; {self.name} reads both in one pass, without a weight")
            return self._run(images, texts, views=("product",), strict=True)["product"]
        vectors = self._run(images, texts, views=("image", "text"), strict=True)
        weight = 1.0 if text_weight is None else text_weight
        sum_NxD = vectors["image"] + weight * np.nan_to_num(vectors["text"])
        return sum_NxD / np.maximum(np.linalg.norm(sum_NxD, axis=1, keepdims=True), 1e-12)

    def program(self, view: str) -> tuple[Callable[..., jax.Array], dict[str, tuple[tuple[int, ...], str]]]:
        """A function of named arrays that gives unit vectors (B,D) float32, and {name: (shape behind B, dtype)}.

        Args:
          view: one of `views`. Pictures are as `pipeline` gives them, words as the tokenizer does; a product that has
            neither gets a vector without a meaning.
        """
        size = self.pipeline.size
        picture = {"image": ((size, size, 3), "uint8")}
        tokenizer = self._query_tokenizer if view == "query" else self.tokenizer
        length = tokenizer.max_length if tokenizer else 1
        words = {"text_ids": ((length,), "int32"), "text_mask": ((length,), "bool")}
        both = picture | {"has_image": ((), "bool")} | words | ({"id_row": ((), "int32")} if self._id_rows else {})
        inputs = {"image": picture, "text": words, "query": words, "product": both}[view]
        graphdef, _ = define_model(self._system)

        def embed(**given: jax.Array) -> jax.Array:
            B = next(iter(given.values())).shape[0]
            absent = {name: jnp.zeros((B, *shape), dtype) for name, (shape, dtype) in both.items() if name not in given}
            batch = absent | given
            batch["has_text"] = batch["text_mask"].any(axis=1)
            if view == "image":
                batch["has_image"] = jnp.ones(B, bool)
            if view != "product":
                batch.pop("id_row", None)
            return self._system.embed(nnx.merge(graphdef, self.params), batch, (view,))[view]

        return embed, inputs

    @property
    def views(self) -> tuple[str, ...]:
        """What it has vectors of: "image", "text", "product", "query"."""
        own = ("image", "text") if len(self.modalities) == 2 else self.modalities
        both = ("product",) if len(self.modalities) == 2 else ()
        return (*own, *both, *(("query",) if self._query_tokenizer else ()))

    def _run(self, images, texts, *, views, product_ids=None, strict=False) -> dict[str, np.ndarray]:
        out = {view: np.full((len(texts), self.dim), np.nan, np.float32) for view in views}
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(texts), self.batch_size):
                rows = slice(start, min(start + self.batch_size, len(texts)))
                own = product_ids[rows] if product_ids else ()
                batch = self._batch(list(images[rows]), texts[rows], product_ids=own, pool=pool, strict=strict)
                present = {"image": batch["has_image"], "text": batch["has_text"]}
                present["product"] = batch["has_image"] | batch["has_text"]
                vectors = jax.device_get(self._embed(self.params, batch, views))
                for view in views:
                    shown = present[view][: rows.stop - rows.start]
                    found = vectors[view][: len(shown)]
                    if not np.isfinite(found[shown]).all():
                        raise RuntimeError(f"the {view} tower gives vectors that are not finite; the run has diverged")
                    out[view][rows] = np.where(shown[:, None], found, np.nan)
        return out

    def _batch(self, images, texts, *, pool, strict, product_ids=()) -> dict[str, np.ndarray]:
        """Arrays of `batch_size` rows, or the next power of two for less, so that few shapes are compiled."""
        num_rows = _padded(len(texts), most=self.batch_size)
        size = self.pipeline.size
        pixels = np.zeros((num_rows, size, size, 3), np.uint8)
        has_image = np.zeros(num_rows, bool)
        for row, decoded in enumerate(pool.map(lambda image: self._pixels(image, strict=strict), images)):
            if decoded is not None:
                pixels[row], has_image[row] = decoded, True
        if self.tokenizer is None:
            ids, mask = np.zeros((num_rows, 1), np.int32), np.zeros((num_rows, 1), bool)
        else:
            ids, mask = self.tokenizer([*texts, *[""] * (num_rows - len(texts))])
        rows = np.full(num_rows, NO_ID, np.int32)
        if self._id_rows:
            rows[: len(product_ids)] = [id_row(name, num_rows=self._id_rows) for name in product_ids]
        return {
            **({"id_row": rows} if self._id_rows else {}),
            "image": pixels,
            "has_image": has_image & ("image" in self.modalities),
            "text_ids": ids,
            "text_mask": mask,
            "has_text": mask.any(axis=1),
        }

    def _pixels(self, image: ImageLike | None, *, strict: bool) -> np.ndarray | None:
        if image is None:
            return None
        try:
            if isinstance(image, Image.Image):
                return self.pipeline.fit(to_rgb(image))
            if not isinstance(image, bytes) and not Path(image).is_file():
                raise UserError(f"there is no picture at {str(image)!r}; check the path, or pass encoded bytes")
            return self.pipeline(image if isinstance(image, bytes) else Path(image).read_bytes())
        except (ImageDefect, OSError) as error:
            if strict:
                name = f"{len(image)} bytes" if isinstance(image, bytes) else str(image)
                raise UserError(f"cannot read the picture {name}: {error}; expected JPEG, PNG or WebP") from error
            return None


def _padded(num_rows: int, *, most: int) -> int:
    """The next power of two, so that few shapes are compiled."""
    return min(most, 1 << max(0, num_rows - 1).bit_length())


def text_of(token_digest: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What of reading words decides a space."""
    return {"tokenizer_digest": token_digest, "max_length": config["text"]["max_length"], "template": "title"}


def content_hash(content: Any) -> str:
    """Of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
