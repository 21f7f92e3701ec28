"""What a contrastive loss compares: rows, candidates with their ids, and the rule that says which pairs are positive.

Row i of a batch and candidate i are one pair, so both carry the ids of the pair. Further candidates (a memory bank,
mined negatives) are nobody's pair; they are negatives, or left out. Of a row and a candidate, the first that holds:

    own       row i and candidate i                              positive, affinity 1
    same      equal `key`, both of the batch                     by `label_mode`: "catalog" affinity alpha, "mask" left
                                                                 out, "one_hot" a negative (unless left out below)
    alike     "keywords" only, both of the batch: word sets      affinity alpha; without them equal keys are left out
              that overlap, and equal `category`
    left out  equal `key` among further candidates; an equal id in a column of `group`; a key that the row knows
    negative  every other valid pair
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

LABEL_MODES = ("one_hot", "catalog", "mask", "keywords")
KINDS = ("softmax", "sigmoid")
NO_KEY = -(2**31)  # fills the lists of known keys; no candidate has it


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """Rows to compare against, sharded over all axes of the mesh.

    Args:
      embedding_CxD: float32 or bfloat16 unit vectors.
      key_C: int32, equal for what counts as the same product; unique where unknown.
      valid_C: bool, False for rows that are neither queries, positives nor negatives.
      group_CxG: int32 or None; candidates that share an id of any column with a row are not its negatives. Columns are
        what the caller likes: item group, product, query. Ids are unique where unknown.
      weight_C: float32 or None, weight of pair i in the loss, at least 0; of the batch only. No gradient.
      words_CxW, category_C: int32 or None, for "keywords": the distinct words of the pair, filled up with `NO_KEY`, and
        the category of its product; of the batch only.
      trained: False if no gradient is to reach the embeddings (memory bank); it is then not computed.
    """

    embedding_CxD: jax.Array
    key_C: jax.Array
    valid_C: jax.Array
    group_CxG: jax.Array | None = None
    weight_C: jax.Array | None = None
    words_CxW: jax.Array | None = None
    category_C: jax.Array | None = None
    trained: bool = dataclasses.field(default=True, metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the loss is; how it is computed changes nothing about it.

    Args:
      kind: "softmax" (InfoNCE) or "sigmoid" (SigLIP, 2303.15343).
      label_mode: "one_hot", "catalog" or "mask", see the module.
      alpha: affinity of another listing of the same product ("catalog"), or of the pair of a similar query
        ("keywords"), against the row's own, in [0, 1].
      overlap: from which share |both| / |either| on the words of two pairs are alike, in (0, 1]; "keywords" only.
      margin: m of AM-softmax, exp(s) (cosine - m) on positives; at least 0.
      both: candidates -> rows as well, among the batch; further candidates serve rows -> candidates only.
      span: 0, or rows i and candidates n of the batch meet only if i // span == n // span (the local batch of a device
        is span = B / devices: the baseline of cross-device negatives).
      stop_gradient: no gradient reaches a candidate from rows of another device: the same value, a cheaper and inexact
        gradient that depends on the number of devices.

    Errors: ValueError for a value outside of these.
    """

    kind: str = "softmax"
    label_mode: str = "one_hot"
    alpha: float = 1.0
    overlap: float = 0.5
    margin: float = 0.0
    both: bool = True
    span: int = 0
    stop_gradient: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        if self.label_mode not in LABEL_MODES:
            raise ValueError(f"label_mode is {self.label_mode!r}; expected one of {', '.join(LABEL_MODES)}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"catalog_alpha is {self.alpha}; expected a number from 0 to 1")
        if not 0 < self.overlap <= 1:
            raise ValueError(f"overlap is {self.overlap}; expected a share above 0, up to 1")
        if not (self.margin >= 0 and math.isfinite(self.margin)):
            raise ValueError(f"margin is {self.margin}; expected a number of at least 0, such as 0.1")
        if self.span < 0:
            raise ValueError(f"span is {self.span}; expected 0 (all rows of the batch meet) or a number of rows")

    @property
    def share(self) -> float:
        """Affinity of a same pair."""
        return self.alpha if self.label_mode in ("catalog", "keywords") else 0.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ids:
    """What is known of rows or candidates beside their vectors; arrays of equal length.

    Args:
      index_n: int32 place in the global batch, negative for padding.
      key_n, valid_n, group_nxG: as in `Candidates`.
      known_nxK: int32 or None, of rows only: keys that are no negatives of the row, filled up with `NO_KEY`.
      words_nxW, category_n: as in `Candidates`.
    """

    index_n: jax.Array
    key_n: jax.Array
    valid_n: jax.Array
    group_nxG: jax.Array | None = None
    known_nxK: jax.Array | None = None
    words_nxW: jax.Array | None = None
    category_n: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Relation:
    """Of every pair of a tile (r,c): bool `own`, `same`, `shown` (in the loss at all), float32 `affinity`.

    `own`, `same` and `affinity` are None for further candidates, which have no positives.
    """

    shown_rxc: jax.Array
    own_rxc: jax.Array | None = None
    same_rxc: jax.Array | None = None
    affinity_rxc: jax.Array | None = None

    @property
    def negative_rxc(self) -> jax.Array:
        """Bool: the pairs that push."""
        if self.own_rxc is None:
            return self.shown_rxc
        return self.shown_rxc & ~self.own_rxc & ~self.same_rxc


def relate(rule: Rule, row: Ids, column: Ids, *, paired: bool) -> Relation:
    """The relation of rows to columns; `paired` if the columns are of the batch."""
    valid_rxc = row.valid_n[:, None] & column.valid_n
    same_key_rxc = row.key_n[:, None] == column.key_n
    left_out_rxc = jnp.zeros_like(valid_rxc)
    if row.group_nxG is not None and column.group_nxG is not None:
        for g in range(row.group_nxG.shape[1]):
            left_out_rxc |= row.group_nxG[:, g, None] == column.group_nxG[:, g]
    if row.known_nxK is not None:
        left_out_rxc |= (row.known_nxK[:, None, :] == column.key_n[:, None]).any(axis=-1)
    if not paired:
        return Relation(shown_rxc=valid_rxc & ~same_key_rxc & ~left_out_rxc)

    own_rxc = valid_rxc & (row.index_n[:, None] == column.index_n)
    if rule.span:
        valid_rxc &= row.index_n[:, None] // rule.span == column.index_n // rule.span
    same_rxc = valid_rxc & same_key_rxc & ~own_rxc
    if rule.label_mode in ("mask", "keywords"):
        left_out_rxc |= same_rxc
    if rule.label_mode == "keywords":
        same_rxc = valid_rxc & _alike(rule, row, column) & ~own_rxc
    affinity_rxc = jnp.where(own_rxc, 1.0, jnp.where(same_rxc, rule.share, 0.0))
    return Relation(
        shown_rxc=(valid_rxc & ~left_out_rxc) | (affinity_rxc > 0),
        own_rxc=own_rxc,
        same_rxc=same_rxc,
        affinity_rxc=affinity_rxc,
    )


def ids_of(candidates: Candidates, *, known_CxK: jax.Array | None = None) -> Ids:
    """What is known of candidates beside their vectors; `known_CxK` if they are also the rows."""
    return Ids(
        index_n=jnp.arange(len(candidates.key_C)),
        key_n=candidates.key_C,
        valid_n=candidates.valid_C,
        group_nxG=candidates.group_CxG,
        known_nxK=known_CxK,
        words_nxW=candidates.words_CxW,
        category_n=candidates.category_C,
    )


def _alike(rule: Rule, row: Ids, column: Ids) -> jax.Array:
    """Bool (r,c): word sets that overlap enough, of one category (keyword enhancement of MAKE, 2301.12646)."""
    if row.words_nxW is None or column.category_n is None:
        raise ValueError('label_mode is "keywords"; expected words_CxW and category_C of the candidates')
    size = lambda ids: (ids.words_nxW != NO_KEY).sum(axis=1)
    both_rxc = jnp.zeros((len(row.words_nxW), len(column.words_nxW)), jnp.int32)
    for w in range(row.words_nxW.shape[1]):
        word_r = row.words_nxW[:, w]
        found_rxc = (word_r[:, None, None] == column.words_nxW).any(axis=-1)
        both_rxc += found_rxc & (word_r != NO_KEY)[:, None]
    either_rxc = size(row)[:, None] + size(column) - both_rxc
    overlap_rxc = both_rxc / jnp.maximum(either_rxc, 1)
    return (overlap_rxc >= rule.overlap) & (row.category_n[:, None] == column.category_n)
