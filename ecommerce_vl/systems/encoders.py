"""What the systems share: encoders as a config describes them, how they read a batch and its views, their type of
computation, one random key a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.models.dual import DualEncoder, unit
from ecommerce_vl.models.joint import JointEncoder
from ecommerce_vl.models.text import TextTransformer
from ecommerce_vl.models.transformer import Form

DTYPES = ("auto", "float32", "bfloat16")
VIEWS = ("image", "text", "product")
EQUAL_WEIGHTS = {"image": 1.0, "text": 1.0}
BLOCKS = ("width", "depth", "heads", "mlp_ratio", "drop_path", "remat")  # fields of a tower, and of the joint encoder
PIXELS = ("patch_size", "stem", "mean", "std")  # fields of `config.image` that every reader of pictures has
SIGMOID_BIAS = -10.0  # SigLIP, 2303.15343


def dual_encoder(config, *, vocab_size: int, rngs: nnx.Rngs) -> DualEncoder:
    """Two towers, from `config.image` and `config.text`; of a published model of one modality, the one that it has."""
    image, text = config.get("image"), config.get("text")
    return DualEncoder(
        image=image
        and {name: image[name] for name in (*BLOCKS, "pool", *PIXELS)}
        | {"image_size": image["size"], **published(image, "cls_token")},
        text=text
        and {name: text[name] for name in (*BLOCKS, "pool", "max_length")}
        | {"vocab_size": vocab_size, **published(text, "padding")},
        embed_dim=config["embed_dim"],
        temperature_init=config["temperature_init"],
        logit_bias=logit_bias(config),
        **{f"{name}_projection": config.get(name, {}).get("projection", "linear") for name in ("image", "text")},
        dtype=compute_dtype(config["dtype"]),
        rngs=rngs,
    )


def embed_dual(
    model: DualEncoder,
    batch: Mapping[str, jax.Array],
    views: tuple[str, ...],
    *,
    weights: Mapping[str, float] = EQUAL_WEIGHTS,
    keys_B: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """{view: unit vectors (B,D)} by two towers; zeros of "image" or "text" where the model has no such tower.

    Args:
      weights: of the two vectors of a product, whose own is norm(w_image image + w_text text) of what it has.
      keys_B: of what training drops at random; None drops nothing.
    """
    nothing = jnp.zeros((batch["has_image"].shape[0], model.embed_dim))
    image_BxD, text_BxD = nothing, nothing
    if model.image is not None and views != ("text",):
        image_BxD = model.encode_image(batch["image"], keys_B)
    if model.text is not None and views != ("image",):
        text_BxD = model.encode_text(batch["text_ids"], batch["text_mask"], keys_B)
    image_B, text_B = (weights[name] * batch[f"has_{name}"] for name in ("image", "text"))
    product_BxD = unit(image_B[:, None] * image_BxD + text_B[:, None] * text_BxD)
    return {view: {"image": image_BxD, "text": text_BxD, "product": product_BxD}[view] for view in views}


def logit_bias(config) -> float | None:
    """What a sigmoid loss adds to similarities at its start, since nearly all pairs are negatives; else None."""
    return SIGMOID_BIAS if config.get("loss", {}).get("objective") == "sigmoid" else None


def joint_encoder(config, *, vocab_size: int, rngs: nnx.Rngs, adapt: bool = False) -> JointEncoder:
    """One encoder of both modalities: pixels of `config.image`, words of `config.text`, blocks of `config.joint`."""
    image = config["image"]
    return JointEncoder(
        image_size=image["size"],
        **{name: image[name] for name in PIXELS},
        vocab_size=vocab_size,
        max_length=config["text"]["max_length"],
        **_blocks(config["joint"]),
        dtype=compute_dtype(config["dtype"]),
        rngs=rngs,
        adapt=adapt,
        pool=config["joint"].get("pool", "mean"),  # ITEm's global state learns from its words and patches all the same
    )


def text_encoder(config, *, vocab_size: int, rngs: nnx.Rngs) -> TextTransformer:
    """An encoder of texts alone with the words of `config.text` and the blocks of `config.joint`."""
    return TextTransformer(
        vocab_size=vocab_size,
        max_length=config["text"]["max_length"],
        **_blocks(config["joint"]),
        pool="mean",
        dtype=compute_dtype(config["dtype"]),
        rngs=rngs,
    )


def _blocks(joint: Mapping[str, Any]) -> dict[str, Any]:
    return {name: joint[name] for name in BLOCKS} | published(joint)


def published(part: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The form of a published architecture, and others of its fields, where the config has them; else ours."""
    form = {"form": Form(**part["form"])} if "form" in part else {}
    return form | {name: part[name] for name in names if name in part}


def read(encoder: nnx.Module, batch: Mapping[str, jax.Array], **options) -> Any:
    """What a joint encoder, or a module around it that is called alike, makes of the products of a batch."""
    return encoder(
        batch["image"], batch["text_ids"], batch["text_mask"],
        has_image_B=batch["has_image"], has_text_B=batch["has_text"], **options,
    )  # fmt: skip


def embed_views(
    batch: Mapping[str, jax.Array], views: tuple[str, ...], embed: Callable[[Mapping[str, jax.Array]], jax.Array]
) -> dict[str, jax.Array]:
    """{view: vectors (B,D)} by a joint encoder: "image" and "text" hide the other slot, "product" shows what there is.

    All views have the same positions, so that a product without a picture has, to the bit, the vector of its text.
    """
    absent_B = jnp.zeros(batch["text_ids"].shape[0], bool)  # of any length, in a program for any batch
    hidden = {"image": {"has_text": absent_B}, "text": {"has_image": absent_B}, "product": {}}
    return {view: embed({**batch, **hidden[view]}) for view in views}


def together(passes: Sequence[Any]) -> Any:
    """P passes (trees of arrays) over the same rows as one: arrays (B P, ...), the passes of a row side by side.

    So every row stays on its device.
    """
    return jax.tree.map(lambda *arrays: jnp.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:]), *passes)


def apart(tree: Any, passes: int) -> list:
    """What was made of each pass of `together`."""
    return [jax.tree.map(lambda x, p=p: x.reshape(-1, passes, *x.shape[1:])[:, p], tree) for p in range(passes)]


def row_keys(rng: jax.Array, product_key_B: jax.Array) -> jax.Array:
    """One random key (B,) a row, from its product, so that it does not depend on the row's place in the batch."""
    return jax.vmap(lambda key: jax.random.fold_in(rng, key))(product_key_B)


def compute_dtype(name: str) -> jnp.dtype:
    """The type of computation; "auto" is bfloat16 on accelerators, float32 on CPU, where bfloat16 is slower.

    Errors: ValueError for a name that is not in `DTYPES`.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}; expected one of {', '.join(DTYPES)}")
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)
