"""The joint encoder: patches and words of a product in one sequence, with slots that can be masked away.

    [CLS]  v_1 .. v_N  w_1 .. w_L

Invariants: no regions of interest, patches are cut from pixels; a slot that is absent becomes one learned vector and
hides all its other positions, so the output depends neither on the slot's content nor on its length; the pixels of a
masked patch reach no state, whatever the stem.

Source: the single-stream form of ITEm (2311.02084) and of eSSPR's Cross-BERT (2302.05093); sizes, the order of the
sequence and pre-norm blocks are our defaults, the papers give none.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.errors import one_of
from ecommerce_vl.models.transformer import OURS, Form, Transformer, attention_output, embedding, mean_of_shown
from ecommerce_vl.models.vision import STEMS, normalise, patches_of

IMAGE, TEXT = 0, 1  # rows of the tables of modalities
POOLS = ("cls", "mean")


class States(NamedTuple):
    """Last hidden states, in the compute dtype, and which of them are of something that is there.

    Args:
      cls_BxW: the global representation g.
      image_BxNxW, text_BxLxW: of the patches and of the tokens.
      image_shown_BxN, text_shown_BxL: bool, False for padding and for the slot of an absent modality.
      share_Bx2: float32, what the encoder gives to image and to text, of sum 1; None without `adapt`.
    """

    cls_BxW: jax.Array
    image_BxNxW: jax.Array
    text_BxLxW: jax.Array
    image_shown_BxN: jax.Array
    text_shown_BxL: jax.Array
    share_Bx2: jax.Array | None = None

    def pooled(self, pool: str) -> jax.Array:
        """One state (B,W) a row, by a name of `POOLS`: "cls" is that of [CLS], "mean" the `mean`."""
        return self.cls_BxW if pool == "cls" else self.mean()

    def mean(self) -> jax.Array:
        """The mean (B,W) over the patches and tokens that are there; zeros for a row that has neither.

        With shares, patches and tokens count by them. The blocks normalise what they read, so a factor on their input
        alone would hardly be felt.
        """
        image_BxNxW, text_BxLxW = self.image_BxNxW, self.text_BxLxW
        if self.share_Bx2 is not None:
            image_BxNxW, text_BxLxW = _scaled(image_BxNxW, text_BxLxW, self.share_Bx2)
        return mean_of_shown(
            jnp.concatenate([image_BxNxW, text_BxLxW], axis=1),
            jnp.concatenate([self.image_shown_BxN, self.text_shown_BxL], axis=1),
        )


def _scaled(image_BxNxW, text_BxLxW, share_Bx2) -> tuple[jax.Array, jax.Array]:
    """Each modality by twice its share, which changes nothing where the shares are equal."""
    factor_Bx2x1x1 = 2 * share_Bx2[:, :, None, None]
    return (
        image_BxNxW * factor_Bx2x1x1[:, IMAGE].astype(image_BxNxW.dtype),
        text_BxLxW * factor_Bx2x1x1[:, TEXT].astype(text_BxLxW.dtype),
    )


class JointEncoder(nnx.Module):
    """Stem, tables and one transformer over both modalities.

    Args:
      image_size, patch_size: pixels; N = (image_size / patch_size)^2.
      stem: a key of `STEMS`.
      mean, std: per channel, of pixels scaled to [0, 1].
      vocab_size, max_length: rows of the tables of tokens and of their positions.
      adapt: learn how much of each product is in its picture and how much in its text (modal adaptation of MAKE,
        2301.12646): a = softmax(W_a [mean of tokens; mean of patches]), input [2 a_t tokens; 2 a_v patches]. W_a starts
        at zero, which is the plain encoder; an absent modality has the share 0.
      form: of the blocks; where it has a norm of what comes in, that is over the whole sequence.
      pool: which state will stand for a product, "mean" or "cls"; it decides how blocks begin (`attention_output`).
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        stem: str,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        vocab_size: int,
        max_length: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        drop_path: float,
        remat: str,
        form: Form = OURS,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        adapt: bool = False,
        pool: str = "mean",
    ):
        one_of("image.stem", stem, STEMS)
        self.dtype, self.patch_size, self.mean, self.std = dtype, patch_size, tuple(mean), tuple(std)
        self.stem = STEMS[stem](patch_size=patch_size, width=width, dtype=dtype, rngs=rngs)
        self.token = embedding(vocab_size, width, rngs=rngs)
        self.text_position = embedding(max_length, width, rngs=rngs)
        self.image_position = embedding((image_size // patch_size) ** 2, width, rngs=rngs)
        self.modality = embedding(2, width, rngs=rngs)
        self.absent = embedding(2, width, rngs=rngs)
        self.cls = embedding(1, width, rngs=rngs)
        self.mask_patch = embedding(1, width, rngs=rngs)
        self.adapt = nnx.Param(jnp.zeros((2 * width, 2))) if adapt else None
        self.transformer = Transformer(
            width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            drop_path=drop_path,
            remat=remat,
            form=form,
            attention_out=attention_output(pool),
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(
        self,
        image_BxHxWx3: jax.Array | None,
        text_ids_BxL: jax.Array,
        text_mask_BxL: jax.Array,
        *,
        has_image_B: jax.Array,
        has_text_B: jax.Array,
        masked_BxN: jax.Array | None = None,
        keys_B: jax.Array | None = None,
    ) -> States:
        """The states of each row.

        Args:
          image_BxHxWx3: uint8. None for rows that all have no picture: the same states of the text in fewer positions,
            with one (hidden) patch.
          text_ids_BxL, text_mask_BxL: int32, bool; L up to `max_length`. Masked words are already replaced by their
            symbol.
          has_image_B, has_text_B: bool, False masks the slot away.
          masked_BxN: bool, patches to replace by the learned [MASK_V]; position and modality stay.
          keys_B: one random key a row turns stochastic depth on; None (evaluation) turns it off.
        """
        B, L = text_ids_BxL.shape
        if image_BxHxWx3 is None:
            v_BxNxW = jnp.broadcast_to(self.absent[...][IMAGE], (B, 1, self.cls.shape[-1]))
            has_image_B = jnp.zeros(B, bool)
        else:
            v_BxNxW = self._image_slot(image_BxHxWx3, masked_BxN)
        w_BxLxW = self.token[...][text_ids_BxL] + self.text_position[...][:L] + self.modality[...][TEXT]

        image_shown_BxN = jnp.broadcast_to(has_image_B[:, None], v_BxNxW.shape[:2])
        text_shown_BxL = jnp.asarray(text_mask_BxL) & has_text_B[:, None]
        share_Bx2 = None
        if self.adapt is not None:
            share_Bx2 = self._shares(v_BxNxW, w_BxLxW, image_shown_BxN, text_shown_BxL)
            v_BxNxW, w_BxLxW = _scaled(v_BxNxW, w_BxLxW, share_Bx2)
        v_BxNxW = jnp.where(has_image_B[:, None, None], v_BxNxW, self.absent[...][IMAGE])
        w_BxLxW = jnp.where(has_text_B[:, None, None], w_BxLxW, self.absent[...][TEXT])
        cls_Bx1xW = jnp.broadcast_to(self.cls[...], (B, 1, self.cls.shape[-1]))
        x_BxSxW = jnp.concatenate([part.astype(self.dtype) for part in (cls_Bx1xW, v_BxNxW, w_BxLxW)], axis=1)
        # The first position of each slot is always visible: it holds the slot's absence where the slot is absent.
        visible_BxS = jnp.concatenate(
            [jnp.ones((B, 1), bool), image_shown_BxN.at[:, 0].set(True), text_shown_BxL.at[:, 0].set(True)], axis=1
        )
        x_BxSxW = self.transformer(x_BxSxW, visible_BxS, keys_B)
        N = v_BxNxW.shape[1]
        return States(
            cls_BxW=x_BxSxW[:, 0],
            image_BxNxW=x_BxSxW[:, 1 : 1 + N],
            text_BxLxW=x_BxSxW[:, 1 + N :],
            image_shown_BxN=image_shown_BxN,
            text_shown_BxL=text_shown_BxL,
            share_Bx2=share_Bx2,
        )

    def _image_slot(self, image_BxHxWx3: jax.Array, masked_BxN: jax.Array | None) -> jax.Array:
        pixels = normalise(image_BxHxWx3, mean=self.mean, std=self.std)
        if masked_BxN is not None:  # any stem but "patch" would carry them to their neighbours
            pixels = jnp.where(self._by_pixel(masked_BxN, pixels.shape), 0.0, pixels)
        v_BxNxW = self._patches(pixels)
        if masked_BxN is not None:
            v_BxNxW = jnp.where(masked_BxN[:, :, None], self.mask_patch[...].astype(v_BxNxW.dtype), v_BxNxW)
        return v_BxNxW + self.image_position[...] + self.modality[...][IMAGE]

    def _shares(self, v_BxNxW, w_BxLxW, image_shown_BxN, text_shown_BxL) -> jax.Array:
        """(B,2) float32, by `IMAGE` and `TEXT`; 0 for what is absent, halves where both are."""
        means = [mean_of_shown(w_BxLxW, text_shown_BxL), mean_of_shown(v_BxNxW, image_shown_BxN)]
        logit_Bx2 = jnp.concatenate(means, axis=-1).astype(jnp.float32) @ self.adapt[...]
        present_Bx2 = jnp.stack([image_shown_BxN.any(axis=1), text_shown_BxL.any(axis=1)], axis=1)
        return jax.nn.softmax(jnp.where(present_Bx2, logit_Bx2, -1e9), axis=1)

    def embed_patches(self, image_BxHxWx3: jax.Array) -> jax.Array:
        """What the stem makes of each patch (B,N,W), without positions and masks; in the compute dtype."""
        return self._patches(normalise(image_BxHxWx3, mean=self.mean, std=self.std))

    def raw_patches(self, image_BxHxWx3: jax.Array) -> jax.Array:
        """The normalised pixels of each patch (B,N,patch_size * patch_size * 3), float32."""
        patches = patches_of(normalise(image_BxHxWx3, mean=self.mean, std=self.std), self.patch_size)
        return patches.reshape(patches.shape[0], -1, patches.shape[-1])

    def _patches(self, pixels_BxHxWx3: jax.Array) -> jax.Array:
        v = self.stem(pixels_BxHxWx3.astype(self.dtype))
        return v.reshape(v.shape[0], -1, v.shape[-1])

    def _by_pixel(self, masked_BxN: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Bool (B,H,W,1): True inside of masked patches."""
        B, H, W, _ = shape
        grid = masked_BxN.reshape(B, H // self.patch_size, W // self.patch_size)
        return grid.repeat(self.patch_size, axis=1).repeat(self.patch_size, axis=2)[..., None]
