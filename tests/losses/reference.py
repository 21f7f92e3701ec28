"""The loss over whole blocks in float64, from its definition: B x C matrices, loops over nothing, devices unknown."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType


def mesh_of(num_devices):
    """A two-axis mesh over the first of the simulated devices."""
    shape = (1, 1) if num_devices == 1 else (num_devices // 2, 2)
    return jax.make_mesh(shape, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:num_devices])


def unit_rows(rng, rows, dim=8):
    """float32 unit vectors (rows, dim)."""
    z = rng.normal(size=(rows, dim))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def pair_matrices(rule, candidates, more=(), known=None):
    """(affinity, shown) as B x C NumPy matrices, C the batch and all further candidates, pair by pair."""
    sets = [candidates, *more]
    owner = [(s, i) for s, item in enumerate(sets) for i in range(len(item.key_C))]
    B = len(candidates.key_C)
    affinity, shown = np.zeros((B, len(owner))), np.zeros((B, len(owner)), bool)
    for i in range(B):
        for column, (s, n) in enumerate(owner):
            other = sets[s]
            if not (candidates.valid_C[i] and other.valid_C[n]):
                continue
            same = candidates.key_C[i] == other.key_C[n]
            groups = candidates.group_CxG is not None and any(candidates.group_CxG[i] == other.group_CxG[n])
            known_one = known is not None and other.key_C[n] in known[i]
            if s == 0 and n == i:
                affinity[i, column], shown[i, column] = 1.0, True
            elif s == 0 and rule.span and i // rule.span != n // rule.span:
                pass
            elif s == 0 and same and rule.label_mode == "catalog" and rule.alpha > 0:
                affinity[i, column], shown[i, column] = rule.alpha, True
            elif same and (s > 0 or rule.label_mode == "mask"):
                pass
            else:
                shown[i, column] = not (groups or known_one)
    return affinity, shown


def reference_loss(rule, z_row, embeddings, logit_scale, bias, *, affinity, shown, valid, weight, devices=1):
    """The scalar; differentiable in the vectors and scalars. Gradients stop between devices by `rule.stop_gradient`."""
    B, (z_column, *others) = len(z_row), embeddings
    cosine = z_row @ jnp.concatenate([z_column, *others]).T
    if rule.stop_gradient:
        parts = []
        for z in embeddings:
            held = z_row @ jax.lax.stop_gradient(z).T
            local = np.arange(B)[:, None] // (B // devices) == np.arange(len(z)) // (len(z) // devices)
            parts.append(jnp.where(local, z_row @ z.T, held))
        cosine = jnp.concatenate(parts, axis=1)
    x = jnp.exp(logit_scale) * (cosine - rule.margin * (affinity > 0)) + bias
    weight = np.where(valid, weight, 0.0)
    share = weight / weight.sum()

    def direction(x, affinity, shown):
        if rule.kind == "sigmoid":
            terms = -affinity * jax.nn.log_sigmoid(x) - (1 - affinity) * jax.nn.log_sigmoid(-x)
            return (jnp.where(shown, terms, 0.0).sum(axis=1) * share).sum()
        kept = np.flatnonzero(valid)
        x, affinity, shown = x[kept], affinity[kept], shown[kept]
        log_p = jax.nn.log_softmax(jnp.where(shown, x, -1e300), axis=1)
        target = affinity / affinity.sum(axis=1, keepdims=True)
        return -(jnp.where(target > 0, target * log_p, 0.0).sum(axis=1) * share[kept]).sum()

    rows = direction(x, affinity, shown)
    if not rule.both:
        return rows
    return (rows + direction(x[:, :B].T, affinity[:, :B].T, shown[:, :B].T)) / 2


def reference_value_and_grad(rule, z_row, candidates, logit_scale, bias=0.0, *, more=(), known=None, devices=1):
    """Value, and gradients of (rows, embeddings, logit scale, bias), in float64."""
    affinity, shown = pair_matrices(rule, candidates, more, known)
    B = len(z_row)
    weight = np.ones(B) if candidates.weight_C is None else np.asarray(candidates.weight_C, np.float64)
    with jax.enable_x64(True):
        wide = lambda x: jnp.asarray(np.asarray(x, np.float64))
        function = lambda *arrays: reference_loss(
            rule, *arrays, affinity=affinity, shown=shown, valid=np.asarray(candidates.valid_C), weight=weight,
            devices=devices,
        )  # fmt: skip
        embeddings = tuple(wide(item.embedding_CxD) for item in (candidates, *more))
        run = jax.jit(jax.value_and_grad(function, argnums=(0, 1, 2, 3)))
        value, grads = run(wide(z_row), embeddings, wide(logit_scale), wide(bias))
        assert value.dtype == jnp.float64
        return jax.device_get((value, grads))
