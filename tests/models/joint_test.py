"""The joint encoder: slots that are really masked, padding and masked patches that nothing sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ecommerce_vl.models.joint import JointEncoder
from tests.modules import stirred

B, SIDE, PATCH, L, VOCAB = 4, 32, 8, 6, 50


def make(stem="patch"):
    model = stirred(
        JointEncoder(
            image_size=SIDE,
            patch_size=PATCH,
            stem=stem,
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            vocab_size=VOCAB,
            max_length=L,
            width=32,
            depth=2,
            heads=2,
            mlp_ratio=2.0,
            drop_path=0.0,
            remat="none",
            dtype=jnp.float32,
            rngs=nnx.Rngs(0),
        )
    )
    return nnx.jit(lambda *args, **kwargs: model(*args, **kwargs))


@pytest.fixture(scope="module", params=["patch", "conv", "gradient"])
def encode(request):
    return make(request.param)


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 256, (B, SIDE, SIDE, 3)).astype(np.uint8),
        rng.integers(3, VOCAB, (B, L)).astype(np.int32),
        np.arange(L) < np.array([6, 4, 5, 1])[:, None],
    )


BOTH = {"has_image_B": np.ones(B, bool), "has_text_B": np.ones(B, bool)}


def test_an_absent_slot_leaves_no_trace_of_its_content_or_length(encode):
    image, ids, mask = inputs()
    other_image, other_ids, _ = inputs(seed=1)
    no_image = BOTH | {"has_image_B": np.zeros(B, bool)}
    no_text = BOTH | {"has_text_B": np.zeros(B, bool)}
    first, second = encode(image, ids, mask, **no_image), encode(other_image, ids, mask, **no_image)
    for name in ("cls_BxW", "text_BxLxW"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.mean(), second.mean())
    first, second = encode(image, ids, mask, **no_text), encode(image, other_ids, ~mask, **no_text)
    for name in ("cls_BxW", "image_BxNxW"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.mean(), second.mean())
    assert not first.text_shown_BxL.any() and first.image_shown_BxN.all()
    # And a slot that is there matters.
    assert np.abs(encode(image, ids, mask, **BOTH).cls_BxW - first.cls_BxW).min(axis=1).max() > 1e-4


def test_padding_is_invisible(encode):
    image, ids, mask = inputs()
    states = encode(image, ids, mask, **BOTH)
    changed = encode(image, np.where(mask, ids, 7), mask, **BOTH)
    np.testing.assert_array_equal(states.cls_BxW, changed.cls_BxW)
    np.testing.assert_array_equal(states.mean(), changed.mean())
    shorter = encode(image[1:2], ids[1:2, :4], mask[1:2, :4], has_image_B=np.ones(1, bool), has_text_B=np.ones(1, bool))
    np.testing.assert_allclose(shorter.cls_BxW[0], states.cls_BxW[1], atol=1e-5)


def test_pixels_of_a_masked_patch_reach_no_state(encode):
    image, ids, mask = inputs()
    masked = np.zeros((B, (SIDE // PATCH) ** 2), bool)
    masked[:, [0, 5]] = True
    repainted = image.copy()
    repainted[:, :PATCH, :PATCH] = 0
    repainted[:, PATCH : 2 * PATCH, PATCH : 2 * PATCH] = 255
    first, second = (encode(x, ids, mask, masked_BxN=masked, **BOTH) for x in (image, repainted))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert not np.allclose(encode(image, ids, mask, **BOTH).cls_BxW, encode(repainted, ids, mask, **BOTH).cls_BxW)


def test_a_row_with_neither_slot_is_finite(encode):
    image, ids, mask = inputs()
    states = encode(image, ids, mask, has_image_B=np.zeros(B, bool), has_text_B=np.zeros(B, bool))
    assert np.isfinite(states.cls_BxW).all() and (states.mean() == 0).all()
