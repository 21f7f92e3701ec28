"""What a contrastive loss compares: rows, candidates with their ids, and the rule that says which pairs are positive.

Row i of a batch and candidate i are one pair, so both carry the ids of the pair. Further candidates (a memory bank,
mined negatives) are nobody's pair; they are negatives, or left out. Of a row and a candidate, the first that holds:

    own       row i and candidate i                              positive, affinity 1
    same      equal `key`, both of the batch                     by `label_mode`: "catalog" affinity alpha, "mask" left
                                                                 out, "one_hot" a negative (unless left out below)
    left out  equal `key` among further candidates; an equal id in a column of `group`; a key that the row knows
    negative  every other valid pair
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

LABEL_MODES = ("one_hot", "catalog", "mask")
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
      trained: False if no gradient is to reach the embeddings (memory bank); it is then not computed.
    """

    embedding_CxD: jax.Array
    key_C: jax.Array
    valid_C: jax.Array
    group_CxG: jax.Array | None = None
    weight_C: jax.Array | None = None
    trained: bool = dataclasses.field(default=True, metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the loss is; how it is computed changes nothing about it.

    Args:
      kind: "softmax" (InfoNCE) or "sigmoid" (SigLIP, 2303.15343).
      label_mode: "one_hot", "catalog" or "mask", see the module.
      alpha: affinity of another listing of the same product against the row's own, in [0, 1]; "catalog" only.
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
        if not (self.margin >= 0 and math.isfinite(self.margin)):
            raise ValueError(f"margin is {self.margin}; expected a number of at least 0, such as 0.1")
        if self.span < 0:
            raise ValueError(f"span is {self.span}; expected 0 (all rows of the batch meet) or a number of rows")

    @property
    def share(self) -> float:
        """Affinity of a same pair."""
        return self.alpha if self.label_mode == "catalog" else 0.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ids:
    """What is known of rows or candidates beside their vectors; arrays of equal length.

    Args:
      index_n: int32 place in the global batch, negative for padding.
      key_n, valid_n, group_nxG: as in `Candidates`.
      known_nxK: int32 or None, of rows only: keys that are no negatives of the row, filled up with `NO_KEY`.
    """

    index_n: jax.Array
    key_n: jax.Array
    valid_n: jax.Array
    group_nxG: jax.Array | None = None
    known_nxK: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Relation:
    """Of every pair of a tile (r,c): bool `own`, `same`, `shown` (in the loss at all), float32 `affinity`.

    `own`, `same` and `affinity` are None for further candidates, which have no positives.
    """

    shown_rxc: jax.Array
    own_rxc: jax.Array | None = None
    same_rxc: jax.Array | None = None
    affinity_rxc: jax.Array | None = None


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
    affinity_rxc = jnp.where(own_rxc, 1.0, jnp.where(same_rxc, rule.share, 0.0))
    if rule.label_mode == "mask":
        left_out_rxc |= same_rxc
    return Relation(
        shown_rxc=(valid_rxc & ~left_out_rxc) | (affinity_rxc > 0),
        own_rxc=own_rxc,
        same_rxc=same_rxc,
        affinity_rxc=affinity_rxc,
    )
