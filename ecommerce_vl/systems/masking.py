"""What a joint encoder is not shown in training: words and patches, chosen by the key of the row.

Invariants: a row's choice depends on its own key and content alone, so streams, devices and restarts see the same; the
number of slots is fixed by the shape, and a slot that its row does not need is marked unused; positions of padding,
special tokens and absent modalities are never chosen. 80/10/10 as in BERT (1810.04805).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecommerce_vl.errors import UserError

SHARE_MASK, SHARE_RANDOM = 0.8, 0.1  # of chosen words; the rest stays as it is


class Chosen(NamedTuple):
    """M slots a row.

    Args:
      index_BxM: int32, different positions within a row.
      used_BxM: bool, False for a slot that chose nothing; its position is arbitrary.
    """

    index_BxM: jax.Array
    used_BxM: jax.Array

    def take(self, x_BxPx: jax.Array) -> jax.Array:
        """The rows (B,M,…) of x (B,P,…) at the chosen positions."""
        return jax.vmap(lambda x_Px, index_M: x_Px[index_M])(x_BxPx, self.index_BxM)

    def marks(self, num_positions: int) -> jax.Array:
        """Bool (B,P): which positions were chosen."""
        mark = lambda index_M, used_M: jnp.zeros(num_positions, bool).at[index_M].set(used_M)
        return jax.vmap(mark)(self.index_BxM, self.used_BxM)


class Vocabulary:
    """The symbols of a tokenizer, as masking needs them.

    Args:
      vocab_size: ids lie below it.
      special_ids: name -> id of all special tokens; "mask" is the mask symbol.

    Errors: UserError if there is no mask symbol.
    """

    def __init__(self, vocab_size: int, special_ids: Mapping[str, int]):
        if "mask" not in special_ids:
            raise UserError(
                "the tokenizer has no mask token, which masked words need; expected [MASK] or <mask> among its special "
                f"tokens, found {', '.join(special_ids) or 'none'}; train one (config.text.tokenizer='') or add it"
            )
        self.mask_id = special_ids["mask"]
        self.is_special_V = np.isin(np.arange(vocab_size), list(special_ids.values()))
        self.word_ids = np.flatnonzero(~self.is_special_V).astype(np.int32)

    def words(self, text_ids_BxL: jax.Array, text_mask_BxL: jax.Array) -> jax.Array:
        """Bool (B,L): the positions of words, neither padding nor special."""
        return text_mask_BxL & ~jnp.asarray(self.is_special_V)[text_ids_BxL]


def split_keys(keys_B: jax.Array, names: tuple[str, ...]) -> dict[str, jax.Array]:
    """Independent keys (B,) for each use."""
    return {name: jax.vmap(lambda key, use=use: jax.random.fold_in(key, use))(keys_B) for use, name in enumerate(names)}


def choose(keys_B: jax.Array, eligible_BxP: jax.Array, *, ratio: float) -> Chosen:
    """A share of the eligible positions of each row, drawn without replacement.

    A row of n eligible positions has ceil(ratio n) of them chosen, so at least one where there is any; the number of
    slots is that of a full row, M = ceil(ratio P).

    Args:
      keys_B: one random key a row.
      eligible_BxP: bool.
      ratio: above 0, at most 1.
    """
    P = eligible_BxP.shape[1]
    counts_P = [math.ceil(ratio * n - 1e-9) for n in range(P + 1)]
    noise_BxP = jax.vmap(lambda key: jax.random.uniform(key, (P,)))(keys_B)
    _, index_BxM = jax.lax.top_k(jnp.where(eligible_BxP, noise_BxP, -1.0), counts_P[P])
    count_B = jnp.asarray(counts_P, jnp.int32)[eligible_BxP.sum(axis=1)]
    return Chosen(index_BxM, jnp.arange(counts_P[P]) < count_B[:, None])


def replace_words(
    keys_B: jax.Array, text_ids_BxL: jax.Array, chosen: Chosen, vocabulary: Vocabulary
) -> tuple[jax.Array, jax.Array]:
    """(ids (B,L) with the chosen words replaced, ids (B,M) that stood there).

    Of the chosen words 80 % become the mask symbol, 10 % a random word that is not special, 10 % stay.
    """
    target_BxM = chosen.take(text_ids_BxL)

    def draw(key):
        kind_key, word_key = jax.random.split(key)
        shape = chosen.index_BxM.shape[1:]
        word_M = jax.random.randint(word_key, shape, 0, len(vocabulary.word_ids))
        return jax.random.uniform(kind_key, shape), jnp.asarray(vocabulary.word_ids)[word_M]

    kind_BxM, random_BxM = jax.vmap(draw)(keys_B)
    new_BxM = jnp.where(kind_BxM < SHARE_MASK, vocabulary.mask_id, random_BxM)
    changed_BxM = chosen.used_BxM & (kind_BxM < SHARE_MASK + SHARE_RANDOM)
    new_BxM = jnp.where(changed_BxM, new_BxM, target_BxM)
    put = lambda ids_L, index_M, new_M: ids_L.at[index_M].set(new_M)
    return jax.vmap(put)(text_ids_BxL, chosen.index_BxM, new_BxM), target_BxM
