"""The transformer that every encoder shares: blocks stacked on one leading layer axis and scanned.

Invariant: the parameters of all layers are one array a name, with the layer first (`blocks/attn/query/kernel` is
(layers, W, W)), so that compile time and the number of leaves do not grow with depth. Randomness comes in as one key
a row of the batch, so a row's dropped paths depend neither on its position, nor on the devices, nor on re-encoding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P

from ecommerce_vl.errors import one_of

REMAT_POLICIES = {
    "none": None,  # keep every activation
    "dots": "dots_with_no_batch_dims_saveable",  # keep matrix products with weights, recompute the rest
    "full": "nothing_saveable",  # keep only the input of each layer
}


ACTIVATIONS = {
    "gelu_tanh": jax.nn.gelu,
    "gelu_erf": partial(jax.nn.gelu, approximate=False),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),  # of CLIP
}
NORMS = ("pre", "post")


@dataclasses.dataclass(frozen=True)
class Form:
    """What published architectures do differently from one another; the defaults are ours.

    Args:
      norm: "pre": x + f(norm(x)), and a norm after the last block; "post": norm(x + f(x)), and none (BERT).
      embed_norm: a norm before the first block (BERT, CLIP's pictures).
      activation: of the perceptrons, a key of `ACTIVATIONS`.
      norm_eps: added to the variance.
      causal: a position attends to itself and those before it (CLIP's texts).
    """

    norm: str = "pre"
    embed_norm: bool = False
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-6
    causal: bool = False

    def __post_init__(self):
        one_of("form.norm", self.norm, NORMS)
        one_of("form.activation", self.activation, ACTIVATIONS)


OURS = Form()


def layer_norm(width: int, *, form: Form, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Normalisation over the width."""
    return nnx.LayerNorm(width, epsilon=form.norm_eps, dtype=dtype, rngs=rngs)


def linear(num_in: int, num_out: int, *, dtype: jnp.dtype, rngs: nnx.Rngs, use_bias: bool = True) -> nnx.Linear:
    """A dense layer with float32 parameters that computes in `dtype`; kernel of variance 1 / num_in.

    Not the 0.02 of BERT: what follows is scale-free (norms, unit vectors), so a small kernel only means large relative
    steps of Adam. (Alone it did not widen the space on Myntra, 2026-11; Muon did, see `training/optimizer.py`.)
    """
    return nnx.Linear(num_in, num_out, use_bias=use_bias, dtype=dtype, rngs=rngs)


def embedding(num_rows: int, width: int, *, rngs: nnx.Rngs) -> nnx.Param:
    """A float32 table (num_rows, W) of tokens or positions, N(0, 1/W) for the same reason."""
    return nnx.Param(jax.random.normal(rngs.params(), (num_rows, width)) / math.sqrt(width))


def residual_output(num_in: int, num_out: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Linear:
    """The last layer of a residual branch, zero at the start: a block begins as the identity."""
    return nnx.Linear(num_in, num_out, dtype=dtype, rngs=rngs, kernel_init=nnx.initializers.zeros)


def mixing_output(num_in: int, num_out: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Linear:
    """The last layer of attention where one position stands for all ([CLS]): N(0, 0.02^2), as in BERT and ViT.

    Were it zero, that position would be the same for every input at the start: all vectors alike, which is a saddle of
    any contrastive loss, with a gradient of exactly zero.
    """
    return nnx.Linear(num_in, num_out, dtype=dtype, rngs=rngs, kernel_init=nnx.initializers.normal(0.02))


def attention_output(pool: str) -> Callable[..., nnx.Linear]:
    """How attention ends in a transformer whose states are pooled so."""
    return mixing_output if pool == "cls" else residual_output


def mean_of_shown(x_BxNxW: jax.Array, shown_BxN: jax.Array) -> jax.Array:
    """The mean (B,W) over the positions that are shown; zeros for a row that shows none."""
    weight_BxNx1 = shown_BxN[:, :, None].astype(x_BxNxW.dtype)
    return (x_BxNxW * weight_BxNx1).sum(axis=1) / jnp.maximum(weight_BxNx1.sum(axis=1), 1)


def by_row(x: jax.Array) -> jax.Array:
    """`x` with its rows over all axes of the mesh in force; as it is where there is none."""
    mesh = jax.sharding.get_abstract_mesh()
    return x if mesh.empty else jax.lax.with_sharding_constraint(x, P(mesh.axis_names))


def on_cpu() -> bool:
    """Whether the mesh in force is one of CPUs."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device is not None and device.platform == "cpu"


@jax.custom_vjp
def whole(params):
    """Parameters, gathered from where they are sharded; their gradient lies where XLA likes.

    Together with `by_row` this is fully sharded data parallelism: the parameters of one layer at a time travel. Without
    them XLA leaves kernels where they are and gathers the activations of all rows, and attention changes its layout
    several times a layer (seen on (data, fsdp) = (2, 4), 2026-11). Remat "none" keeps what is gathered.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return params
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, P()), params)


whole.defvjp(lambda params: (whole(params), None), lambda _, gradient: (gradient,))


class Attention(nnx.Module):
    """Multi-head attention over all positions that the mask shows, of the positions themselves or of given queries."""

    def __init__(
        self, width: int, *, heads: int, form: Form = OURS, out=residual_output, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.heads, self.causal = heads, form.causal
        self.query = linear(width, width, dtype=dtype, rngs=rngs)
        self.key = linear(width, width, dtype=dtype, rngs=rngs)
        self.value = linear(width, width, dtype=dtype, rngs=rngs)
        self.out = out(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BxNxW: jax.Array, mask_BxN: jax.Array | None, query_BxMxW: jax.Array | None = None):
        """(B,M,W), where M is N without queries."""
        query_BxMxW = x_BxNxW if query_BxMxW is None else query_BxMxW
        split = lambda y: y.reshape(*y.shape[:2], self.heads, -1)
        visible = None if mask_BxN is None else mask_BxN[:, None, None, :]
        mixed = jax.nn.dot_product_attention(
            split(self.query(query_BxMxW)),
            split(self.key(x_BxNxW)),
            split(self.value(x_BxNxW)),
            mask=visible,
            is_causal=self.causal,
        )
        return self.out(mixed.reshape(query_BxMxW.shape))


class Mlp(nnx.Module):
    """The two-layer perceptron of a block."""

    def __init__(self, width: int, *, hidden: int, form: Form = OURS, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.activation = form.activation
        self.up = linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = residual_output(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BxNxW: jax.Array) -> jax.Array:
        """(B,N,W), in the compute dtype."""
        # Two axes, not three: XLA:CPU takes 1.6 times as long for the kernel's gradient over two row axes (2026-11).
        x_RxW = x_BxNxW.reshape(-1, x_BxNxW.shape[-1])
        return self.down(ACTIVATIONS[self.activation](self.up(x_RxW))).reshape(x_BxNxW.shape)


class Block(nnx.Module):
    """A residual branch of attention, then one of the perceptron, normalised as the form says."""

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        mlp_ratio: float,
        form: Form,
        attention_out: Callable[..., nnx.Linear] = residual_output,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.norm_after = form.norm == "post"
        self.attn_norm = layer_norm(width, form=form, dtype=dtype, rngs=rngs)
        self.attn = Attention(width, heads=heads, form=form, out=attention_out, dtype=dtype, rngs=rngs)
        self.mlp_norm = layer_norm(width, form=form, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(width, hidden=round(width * mlp_ratio), form=form, dtype=dtype, rngs=rngs)

    def __call__(self, x_BxNxW, mask_BxN, keep_Bx2) -> jax.Array:
        """(B,N,W); `keep_Bx2` are factors of the two branches of each row, see `Transformer`."""
        if self.norm_after:
            x_BxNxW = self.attn_norm(x_BxNxW + keep_Bx2[:, 0, None, None] * self.attn(x_BxNxW, mask_BxN))
            return self.mlp_norm(x_BxNxW + keep_Bx2[:, 1, None, None] * self.mlp(x_BxNxW))
        x_BxNxW = x_BxNxW + keep_Bx2[:, 0, None, None] * self.attn(self.attn_norm(x_BxNxW), mask_BxN)
        return x_BxNxW + keep_Bx2[:, 1, None, None] * self.mlp(self.mlp_norm(x_BxNxW))


class Transformer(nnx.Module):
    """`depth` blocks under one scan; in pre-norm form with a final norm.

    Args:
      form: of the blocks.
      remat: what the backward pass keeps of each layer, a key of `REMAT_POLICIES`.
      attention_out: makes the last layer of attention, see `attention_output`.
      drop_path: probability that a row skips a residual branch in training (stochastic depth, 1603.09382).
    """

    def __init__(
        self,
        width: int,
        *,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        remat: str = "none",
        form: Form = OURS,
        attention_out: Callable[..., nnx.Linear] = residual_output,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        one_of("remat", remat, REMAT_POLICIES)
        self.depth, self.drop_path, self.remat, self.dtype = depth, drop_path, remat, dtype
        shape = {"heads": heads, "mlp_ratio": mlp_ratio, "form": form, "attention_out": attention_out}
        make_block = partial(Block, width, **shape, dtype=dtype)
        one_block = nnx.eval_shape(lambda: make_block(rngs=nnx.Rngs(0)))
        init_layer = lambda key: nnx.split(make_block(rngs=nnx.Rngs(key)))[1]
        self.blocks = nnx.merge(nnx.split(one_block)[0], jax.vmap(init_layer)(jax.random.split(rngs.params(), depth)))
        self.embed_norm = layer_norm(width, form=form, dtype=dtype, rngs=rngs) if form.embed_norm else None
        self.norm = layer_norm(width, form=form, dtype=dtype, rngs=rngs) if form.norm == "pre" else None

    def __call__(self, x_BxNxW, mask_BxN=None, keys_B=None) -> jax.Array:
        """Returns the normalised hidden states (B,N,W) in the compute dtype.

        Args:
          x_BxNxW: float, embedded tokens or patches.
          mask_BxN: bool, True where a position may be attended to; None shows all.
          keys_B: one random key a row turns stochastic depth on; None (evaluation) turns it off.
        """
        x_BxNxW = x_BxNxW.astype(self.dtype)
        if self.embed_norm is not None:
            x_BxNxW = self.embed_norm(x_BxNxW)
        block_def, stacked = nnx.split(self.blocks)

        def layer(x, scanned):
            params, index = scanned
            block = nnx.merge(block_def, whole(params))
            return by_row(block(x, mask_BxN, self._keep(x.shape[0], keys_B, index))), None

        if self.remat != "none":
            policy = getattr(jax.checkpoint_policies, REMAT_POLICIES[self.remat])
            layer = jax.checkpoint(layer, policy=policy, prevent_cse=False)
        # XLA:CPU copies what a loop takes of stacked arrays and puts into them, a sixth of the step (2026-11).
        unroll = self.depth if on_cpu() else 1
        x_BxNxW, _ = jax.lax.scan(layer, by_row(x_BxNxW), (stacked, jnp.arange(self.depth)), unroll=unroll)
        return x_BxNxW if self.norm is None else self.norm(x_BxNxW)

    def _keep(self, num_rows, keys_B, layer_index) -> jax.Array:
        """(B,2) factors of the two residual branches: 0 where a path is dropped, else 1 over its probability."""
        if keys_B is None or self.drop_path == 0:
            return jnp.ones((num_rows, 2), self.dtype)
        keep = 1 - self.drop_path * (layer_index + 1) / self.depth
        kept = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, layer_index), keep, (2,)))(keys_B)
        return (kept / keep).astype(self.dtype)
