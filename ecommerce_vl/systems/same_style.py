"""eSSPR (Alibaba.com, 2302.05093): products of one style, whatever of them is there: picture, title or both.

    L = PPM + w_pdc PDC + w_loc LOC         PPM: x_both, x_text and x_image of the left product against the right one

One joint encoder embeds a pair in several runs, which differ in the slots that are masked away; they are rows of one
call. Invariant: which product of a pair is left decides who asks, so every run but "right" is of the left product,
unless `loss.omni_pairs` adds those of the right one.

The paper gives the losses without their margins, weights, sizes, and without saying what the transformed view is;
those are fields of the config with our defaults.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from ecommerce_vl.errors import none_below_zero
from ecommerce_vl.losses.candidates import Candidates, Ids, Rule
from ecommerce_vl.losses.contrastive import candidate_loss
from ecommerce_vl.losses.hinge import locality, match, mean_of_rows, rank_of_rows
from ecommerce_vl.models.joint_embedding import JointEmbedding
from ecommerce_vl.systems.encoders import (
    VIEWS,
    apart,
    compute_dtype,
    embed_views,
    joint_encoder,
    read,
    row_keys,
    together,
)


class Run(NamedTuple):
    """One pass of the encoder: which product of the pair, and what is shown of it."""

    side: str
    image: bool
    text: bool
    augmented: bool = False


RUNS = {
    "both": Run("left", image=True, text=True),
    "text": Run("left", image=False, text=True),
    "image": Run("left", image=True, text=False),
    "augmented": Run("left", image=True, text=True, augmented=True),
    "right": Run("right", image=True, text=True),
    "right_text": Run("right", image=False, text=True),
    "right_image": Run("right", image=True, text=False),
}
# Names of the config -> runs.
MATCHED_VIEWS = {"both": "both", "text_only": "text", "image_only": "image"}
TRANSFORMED_VIEWS = {"text_only": "text", "image_only": "image", "aug_view": "augmented"}
AUG_CROP = 0.5  # least share of the area that is left of the picture of `aug_view`
AUG_TOKEN_DROPOUT = 0.15


class SameStyle:
    """The system protocol of `ecommerce_vl/systems/__init__.py`, for eSSPR."""

    views = VIEWS
    fusion = "joint encoder"

    def __init__(self, config, *, vocab_size: int, special_ids: Mapping[str, int]):
        loss = config["loss"]
        for name, choices in (("matched_views", MATCHED_VIEWS), ("trans_views", TRANSFORMED_VIEWS)):
            if unknown := [view for view in loss[name] if view not in choices]:
                raise ValueError(f"loss.{name} has {unknown[0]!r}; expected some of {', '.join(choices)}")
        none_below_zero("weights", config["weights"])
        if not loss["matched_views"]:
            raise ValueError("loss.matched_views is empty; expected at least one view that is matched with the pair")
        self.config, self.vocab_size, self.loss = config, vocab_size, loss
        self.matched = [MATCHED_VIEWS[name] for name in loss["matched_views"]]
        transforms = max(config["weights"].values()) > 0
        self.transformed = [TRANSFORMED_VIEWS[name] for name in loss["trans_views"]] if transforms else []
        self.columns = ["right", "right_text", "right_image"] if loss["omni_pairs"] else ["right"]
        needed = {*self.matched, *self.transformed, *self.columns, *(["both"] if self.transformed else [])}
        self.runs = {name: run for name, run in RUNS.items() if name in needed}
        self.shown = (
            ("ppm", "loss_ppm", "6.4f"),
            *((("pdc", "loss_pdc", "6.4f"), ("loc", "loss_locality", "6.4f")) if self.transformed else ()),
            *((f"{view}→", f"{view}_top1", "6.1%") for view in self.matched),
            ("active", "active_ppm", "5.1%"),
            ("rank", "product_rank", ".0f"),
        )

    def build(self, rngs: nnx.Rngs) -> JointEmbedding:
        """The joint encoder that the config describes, and its projection."""
        config, joint = self.config, self.config["joint"]
        return JointEmbedding(
            joint_encoder(config, vocab_size=self.vocab_size, rngs=rngs),
            width=joint["width"],
            embed_dim=config["embed_dim"],
            pool=joint["pool"],
            dtype=compute_dtype(config["dtype"]),
            rngs=rngs,
        )

    def make_extra(self) -> dict:
        """Nothing: negatives are those of the batch."""
        return {}

    def constrain(self, params: dict) -> dict:
        """The parameters as they are: there is no temperature."""
        return params

    def encode(self, model: JointEmbedding, batch, rng: jax.Array) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of every run, from one call with as many rows a pair as there are runs."""
        left_B = row_keys(rng, batch["left"]["product_key"])
        keys_B = jax.vmap(jax.random.fold_in)(left_B, batch["right"]["product_key"])
        keys_BxR = jax.vmap(lambda key: jax.random.split(key, len(RUNS)))(keys_B)  # of all, so that none depends on R
        places = [list(RUNS).index(name) for name in self.runs]
        products = [
            _product(batch[run.side], run, keys_BxR[:, at]) for run, at in zip(self.runs.values(), places, strict=True)
        ]
        vectors = read(model, together(products), keys_B=keys_BxR[:, jnp.array(places)].reshape(-1))
        return dict(zip(self.runs, apart(vectors, len(products)), strict=True))

    def contrast(self, model: JointEmbedding, encoded, batch, extra, mesh):
        """The losses of the global batch of pairs; rows count by their weight, views where the product has them."""
        loss, pairs = self.loss, _pairs(self.runs, encoded, batch, mesh)
        matches = {column: pairs.match(self.matched, column, margin=loss["margin_ppm"]) for column in self.columns}
        tops = zip(self.matched, matches["right"].top1_V, strict=True)
        metrics = {"active_ppm": matches["right"].active_V.mean()} | {f"{view}_top1": top1 for view, top1 in tops}
        each = [(view, column) for view in self.matched for column in self.columns]
        if loss["infonce"]:
            ppm = sum(self._infonce(pairs, view, column) for view, column in each)
        else:
            ppm = sum(found.loss_V.sum() for found in matches.values())
            if loss["symmetric"]:
                back = [pairs.match([column], view, margin=loss["margin_ppm"]).loss_V[0] for view, column in each]
                ppm = (ppm + sum(back)) / 2
        total = ppm = ppm / len(self.columns)
        metrics["loss_ppm"] = ppm
        if self.transformed:
            # Of a product with one modality alone the view is the product itself, which teaches nothing.
            whole_B = batch["left"]["has_image"] & batch["left"]["has_text"]
            found = pairs.match(self.transformed, "both", margin=loss["margin_pdc"], rows_B=whole_B)
            moved_BxV = locality(
                encoded["both"],
                pairs.stacked(self.transformed),
                encoded["right"],
                pairs.column,
                k=loss["locality_k"],
                margin=loss["margin_locality"],
                mesh=mesh,
            )
            pdc = found.loss_V.mean()
            loc = mean_of_rows(moved_BxV, pairs.weight(self.transformed, "both", whole_B)).mean()
            weights = self.config["weights"]
            total = total + weights["pdc"] * pdc + weights["locality"] * loc
            metrics |= {"loss_pdc": pdc, "loss_locality": loc, "active_pdc": found.active_V.mean()}
        metrics["product_rank"] = rank_of_rows(encoded["right"], pairs.row.valid_n, mesh=mesh)
        return total, jax.lax.stop_gradient(metrics), extra

    def _infonce(self, pairs: _Pairs, view: str, column: str) -> jax.Array:
        """The control of one term of PPM: a softmax over the same columns with the same masks; `symmetric` as there."""
        weight_B = pairs.weight([view], column)[:, 0]
        candidates = Candidates(
            pairs.encoded[column],
            pairs.column.key_n,
            pairs.row.valid_n & pairs.there[view] & pairs.there[column],
            group_CxG=pairs.column.group_nxG,
            weight_C=weight_B,
        )
        loss, _ = candidate_loss(
            pairs.encoded[view],
            candidates,
            jnp.asarray(-math.log(self.loss["temperature"])),
            mesh=pairs.mesh,
            rule=Rule(label_mode="mask", both=self.loss["symmetric"]),
            row_group_BxG=pairs.row.group_nxG,
        )
        return loss

    def embed(self, model: JointEmbedding, batch, views: tuple[str, ...]) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of each view; "product" shows what there is."""
        return embed_views(batch, views, lambda shown: read(model, shown))


class _MatchMeans(NamedTuple):
    """`hinge.Match` as means over rows, of each view."""

    loss_V: jax.Array
    active_V: jax.Array
    top1_V: jax.Array


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """A batch of encoded pairs.

    Args:
      encoded: run -> (B,D).
      there: run -> bool (B,), the product has what the run shows.
      row, column: ids, valid where both products show anything.
      weight_B: of each pair in the loss, 0 where it is not valid.
    """

    encoded: dict[str, jax.Array]
    there: dict[str, jax.Array]
    row: Ids
    column: Ids
    weight_B: jax.Array
    mesh: Mesh

    def stacked(self, runs: Sequence[str]) -> jax.Array:
        return jnp.stack([self.encoded[run] for run in runs], axis=1)

    def weight(self, runs: Sequence[str], column: str, rows_B: jax.Array | bool = True) -> jax.Array:
        """Of each row and run (B,V): that of the pair, where both vectors are of something and `rows_B` says so."""
        return jnp.stack([self.weight_B * (self.there[run] & self.there[column] & rows_B) for run in runs], axis=1)

    def match(self, runs: Sequence[str], column: str, *, margin: float, rows_B: jax.Array | bool = True) -> _MatchMeans:
        """The matching loss of the runs in their rows against one run of all pairs, and what is told of it."""
        shown = dataclasses.replace(self.column, valid_n=self.column.valid_n & self.there[column])
        found = match(self.stacked(runs), self.encoded[column], self.row, shown, margin=margin, mesh=self.mesh)
        weight_BxV = self.weight(runs, column, rows_B)
        return _MatchMeans(*(mean_of_rows(x_BxV, weight_BxV) for x_BxV in found))


def _pairs(runs, encoded, batch, mesh: Mesh) -> _Pairs:
    left, right = batch["left"], batch["right"]
    valid_B = batch["valid"] & _has(left) & _has(right)
    row, column = _ids(left, right, batch["style_key"], valid_B)
    there = {name: _has(batch[run.side], image=run.image, text=run.text) for name, run in runs.items()}
    return _Pairs(encoded, there, row, column, jnp.where(valid_B, batch["weight"], 0.0), mesh)


def _product(side, run: Run, keys_B: jax.Array) -> dict[str, jax.Array]:
    """What the encoder sees of one product of each row."""
    product = {name: side[name] for name in ("image", "text_ids", "text_mask")}
    if run.augmented:
        product["image"] = jax.vmap(_crop)(product["image"], keys_B)
        product["text_mask"] = jax.vmap(_drop_tokens)(product["text_mask"], keys_B)
    shown = {"has_image": run.image, "has_text": run.text}
    return product | {name: side[name] & flag for name, flag in shown.items()}


def _has(side, *, image: bool = True, text: bool = True) -> jax.Array:
    """Bool (B,): there is something to see of what is asked for."""
    return (side["has_image"] & image) | (side["has_text"] & text)


def _ids(left, right, style_key_B: jax.Array, valid_B: jax.Array) -> tuple[Ids, Ids]:
    """Ids of the rows and of the columns of a batch of pairs.

    Rows i and j are not each other's negatives where a product of i and one of j are the same, or listings of one
    catalog or one item group: left with left, right with right, and across; and where other pairs connect the two.
    """
    of = lambda side: jnp.stack([side[name] for name in ("product_key", "catalog_key", "group_key")], axis=1)
    left_Bx3, right_Bx3 = of(left), of(right)
    shared = {"index_n": jnp.arange(len(valid_B)), "key_n": right["product_key"], "valid_n": valid_B}
    style_Bx1 = style_key_B[:, None]
    row_group_BxG = jnp.concatenate([left_Bx3, right_Bx3, left_Bx3, right_Bx3, style_Bx1], axis=1)
    column_group_BxG = jnp.concatenate([left_Bx3, right_Bx3, right_Bx3, left_Bx3, style_Bx1], axis=1)
    return Ids(group_nxG=row_group_BxG, **shared), Ids(group_nxG=column_group_BxG, **shared)


def _crop(image_HxWx3: jax.Array, key: jax.Array) -> jax.Array:
    """A random square window of at least `AUG_CROP` of the area, as large as the picture again; uint8."""
    size = image_HxWx3.shape[0]
    area_key, place_key = jax.random.split(key)
    share = jnp.sqrt(jax.random.uniform(area_key, minval=AUG_CROP, maxval=1.0))
    corner_2 = jax.random.uniform(place_key, (2,)) * (1 - share) * size
    pixels = jax.image.scale_and_translate(
        image_HxWx3.astype(jnp.float32), image_HxWx3.shape, (0, 1), jnp.stack([1 / share] * 2), -corner_2 / share,
        method="linear", antialias=False,
    )  # fmt: skip
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)


def _drop_tokens(text_mask_L: jax.Array, key: jax.Array) -> jax.Array:
    """The mask with `AUG_TOKEN_DROPOUT` of the tokens hidden; the first always stays."""
    keep_L = jax.random.uniform(jax.random.fold_in(key, 1), text_mask_L.shape) >= AUG_TOKEN_DROPOUT
    return text_mask_L & keep_L.at[0].set(True)
