"""Heads: tied words, positions that matter, and the transform against plain numpy."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ecommerce_vl.models.heads import MatchHead, PatchHead, WordHead, global_input

B, M, W, V = 3, 2, 8, 13
RNG = np.random.default_rng(0)


def test_the_word_head_ends_in_the_token_table():
    head = WordHead(W, width=W, vocab_size=V, dtype=jnp.float32, rngs=nnx.Rngs(0))
    head.bias[...] = jnp.asarray(RNG.normal(size=V), jnp.float32)
    x, token = RNG.normal(size=(B, M, W)).astype(np.float32), RNG.normal(size=(V, W)).astype(np.float32)
    h = x @ np.asarray(head.transform.dense.kernel[...]) + np.asarray(head.transform.dense.bias[...])
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    h = (h - h.mean(axis=-1, keepdims=True)) / np.sqrt(h.var(axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(head(x, token), h @ token.T + np.asarray(head.bias[...]), atol=2e-5)


def test_two_positions_of_one_row_have_their_own_global_logits():
    head = WordHead(2 * W, width=W, vocab_size=V, dtype=jnp.float32, rngs=nnx.Rngs(0))
    cls, position, token = (RNG.normal(size=shape).astype(np.float32) for shape in ((B, W), (B, M, W), (V, W)))
    x = global_input(jnp.asarray(cls), jnp.asarray(position))
    assert x.shape == (B, M, 2 * W)
    np.testing.assert_array_equal(x[:, 1, :W], cls)
    logits = np.asarray(head(x, token))
    assert np.abs(logits[:, 0] - logits[:, 1]).max(axis=1).min() > 1e-2


def test_shapes_and_types_of_the_other_heads():
    x = jnp.ones((B, M, W), jnp.bfloat16)
    pixels = PatchHead(W, width=W, num_out=12, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(x)
    match = MatchHead(W, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(x[:, 0])
    assert (pixels.shape, pixels.dtype, match.shape, match.dtype) == ((B, M, 12), jnp.float32, (B, 2), jnp.float32)
