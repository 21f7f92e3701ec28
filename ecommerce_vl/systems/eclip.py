"""e-CLIP (NAVER, 2207.00208): a dual encoder trained by one contrastive loss whose labels know the catalog.

Sizes, text length, augmentation and optimizer of the paper are not public; those here are our defaults.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.losses.contrastive import LABEL_MODES, clip_catalog
from ecommerce_vl.models.dual import DualEncoder, unit

VIEWS = ("image", "text", "product")
DTYPES = ("auto", "float32", "bfloat16")


class EClip:
    """The system protocol of `ecommerce_vl/systems/__init__.py`, for e-CLIP."""

    views = VIEWS

    def __init__(self, config, *, vocab_size: int):
        if config["label_mode"] not in LABEL_MODES:
            raise ValueError(f"label_mode is {config['label_mode']!r}; expected one of {', '.join(LABEL_MODES)}")
        self.config, self.vocab_size = config, vocab_size

    def build(self, rngs: nnx.Rngs) -> DualEncoder:
        """The dual encoder that the config describes."""
        image, text = self.config["image"], self.config["text"]
        shared = ("width", "depth", "heads", "mlp_ratio", "pool", "drop_path", "remat")
        return DualEncoder(
            image={name: image[name] for name in (*shared, "patch_size", "stem", "mean", "std")}
            | {"image_size": image["size"]},
            text={name: text[name] for name in (*shared, "max_length")} | {"vocab_size": self.vocab_size},
            embed_dim=self.config["embed_dim"],
            temperature_init=self.config["temperature_init"],
            dtype=compute_dtype(self.config["dtype"]),
            rngs=rngs,
        )

    def encode(self, model: DualEncoder, batch, rng: jax.Array) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of the pictures and of the texts."""
        # A row's randomness comes from its product, so it does not depend on the row's place in the batch.
        keys_B = jax.vmap(lambda key: jax.random.fold_in(rng, key))(batch["product_key"])
        return {
            "image": model.encode_image(batch["image"], keys_B),
            "text": model.encode_text(batch["text_ids"], batch["text_mask"], keys_B),
        }

    def contrast(self, model: DualEncoder, encoded, batch, extra, mesh):
        """The catalog-labelled InfoNCE of the global batch; rows without a picture or a title do not count."""
        loss, metrics = clip_catalog(
            encoded["image"],
            encoded["text"],
            model.logit_scale[...],
            catalog_key_B=batch["catalog_key"],
            valid_B=batch["valid"] & batch["has_image"] & batch["has_text"],
            label_mode=self.config["label_mode"],
            catalog_alpha=self.config["catalog_alpha"],
            mesh=mesh,
            **self.config["loss"],
        )
        return loss, metrics | {"logit_scale": jnp.exp(model.logit_scale[...])}, extra

    def constrain(self, params: dict) -> dict:
        """exp(s) stays at or below its maximum after every update (CLIP)."""
        ceiling = math.log(self.config["logit_scale_max"])
        return params | {"logit_scale": jnp.minimum(params["logit_scale"], ceiling)}

    def embed(self, model: DualEncoder, batch, views: tuple[str, ...]) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of each view. "product" is norm(image + text), or the one that there is."""
        vectors = {}
        if views != ("text",):
            vectors["image"] = model.encode_image(batch["image"])
        if views != ("image",):
            vectors["text"] = model.encode_text(batch["text_ids"], batch["text_mask"])
        if "product" in views:
            image_BxD = vectors["image"] * batch["has_image"][:, None]
            vectors["product"] = unit(image_BxD + vectors["text"] * batch["has_text"][:, None])
        return {view: vectors[view] for view in views}


def compute_dtype(name: str) -> jnp.dtype:
    """The type of computation; "auto" is bfloat16 on accelerators, float32 on CPU, where bfloat16 is slower.

    Errors: ValueError for a name that is not in `DTYPES`.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}; expected one of {', '.join(DTYPES)}")
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)
