"""ITEm as a system: what each objective sees, whose rows count, and the same loss on any mesh and in any streams."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

from configs import item
from ecommerce_vl.data.mismatch import draw_partners
from ecommerce_vl.errors import UserError
from ecommerce_vl.losses.tokens import cross_entropy, patch_distance
from ecommerce_vl.systems import build_system
from ecommerce_vl.systems.encoders import row_keys
from ecommerce_vl.systems.item import OBJECTIVES, USES
from ecommerce_vl.systems.masking import replace_words, split_keys
from ecommerce_vl.training.mesh import batch_sharding, replicated
from ecommerce_vl.training.optimizer import learning_rate, make_optimizer
from ecommerce_vl.training.schedule import make_stages
from ecommerce_vl.training.state import define_model, make_state
from ecommerce_vl.training.step import make_train_step
from ecommerce_vl.training.streams import encode_in_streams

B, SIDE, PATCH, L, V, N = 16, 32, 8, 10, 60, 16
SPECIAL = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "mask": 3}
RNG = jax.random.key(5)


def config_of(**changes):
    config = item.get_config("tiny")
    config.image.size, config.image.patch_size, config.text.max_length = SIDE, PATCH, L
    config.joint.width, config.joint.depth, config.joint.heads, config.dtype = 16, 1, 2, "float32"
    config.text_mask_ratio = 0.3
    config.update_from_flattened_dict(changes)
    return config.to_dict()


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    place, length = np.arange(L), rng.integers(4, L + 1, (B, 1))
    ids = np.where(place == length - 1, 2, rng.integers(4, V, (B, L)))
    ids[:, 0] = 1
    row = np.arange(B)
    return {
        "image": rng.integers(0, 256, (B, SIDE, SIDE, 3)).astype(np.uint8),
        "text_ids": np.where(place < length, ids, 0).astype(np.int32),
        "text_mask": (place < length) & (row != 9)[:, None],
        "has_image": row != 5,
        "has_text": row != 9,
        "valid": row != 12,
        "matched": row % 3 != 1,
        "hard_mismatch": row % 6 == 1,
        "product_key": row.astype(np.int32) + 100,
    }


def stirred(system):
    """The definition, and parameters with noise: fresh blocks are identities, through which nothing flows."""
    make = jax.jit(lambda: nnx.to_pure_dict(nnx.split(system.build(nnx.Rngs(0)))[1]))
    leaves, tree = jax.tree.flatten(make())
    definition, _ = define_model(system)
    rng = np.random.default_rng(1)
    return definition, tree.unflatten([x + 0.1 * rng.standard_normal(x.shape).astype(np.float32) for x in leaves])


@pytest.fixture(scope="module")
def system():
    return build_system(config_of(), vocab_size=V, special_ids=SPECIAL)


@pytest.fixture(scope="module")
def model(system):
    return stirred(system)


@pytest.fixture(scope="module")
def encode(system, model):
    definition, params = model
    return jax.jit(lambda batch: system.encode(nnx.merge(definition, params), batch, RNG))


@pytest.fixture(scope="module")
def masks(system):
    """The words and patches that `encode` masks, and the ids that it puts in their places."""

    @jax.jit
    def find(batch):
        keys = split_keys(row_keys(RNG, batch["product_key"]), USES)
        words, patches = system.choose(keys, batch)
        return words, patches, replace_words(keys["replacements"], batch["text_ids"], words, system.vocabulary)[0]

    return find(batch_of())


def mesh_of(data, fsdp):
    devices = jax.devices()[: data * fsdp]
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=devices)


# -- What each objective sees ------------------------------------------------------------------------------------------


def test_global_objectives_read_the_global_state_alone_and_the_others_never_do(system, model, masks):
    words, patches, ids = masks

    @jax.jit
    def gradients(params, batch):
        net = nnx.merge(model[0], params)
        states = net.encoder(
            batch["image"], ids, batch["text_mask"], has_image_B=batch["has_image"], has_text_B=batch["has_text"],
            masked_BxN=patches.marks(N),
        )  # fmt: skip
        word, pixel = words.take(batch["text_ids"]), patches.take(net.encoder.raw_patches(batch["image"]))

        def loss(states, *, head_w, head_p):
            of_words = cross_entropy(head_w(states, words), word) * words.used_BxM
            of_patches = patch_distance(head_p(states, patches), pixel, kind="l1") * patches.used_BxM
            return of_words.sum() + of_patches.sum()

        return (
            jax.grad(partial(loss, head_w=net.global_words, head_p=net.global_patches), allow_int=True)(states),
            jax.grad(partial(loss, head_w=net.words, head_p=net.patches), allow_int=True)(states),
            net.global_words(states, words),
        )

    of_global, of_own, logits = gradients(model[1], batch_of())
    assert not of_global.text_BxLxW.any() and not of_global.image_BxNxW.any()
    assert (np.abs(of_global.cls_BxW).max(axis=1) > 0).all()
    assert not of_own.cls_BxW.any()
    np.testing.assert_array_equal(np.abs(of_own.text_BxLxW).max(axis=2) > 0, words.marks(L))
    np.testing.assert_array_equal(np.abs(of_own.image_BxNxW).max(axis=2) > 0, patches.marks(N))
    # And the position makes the masked words of one row differ.
    two = np.flatnonzero(words.used_BxM.sum(axis=1) >= 2)
    assert len(two) and (np.abs(logits[two, 0] - logits[two, 1]).max(axis=1) > 1e-3).all()


def test_masked_content_changes_the_target_alone(encode, masks):
    words, patches, ids = masks
    batch = batch_of()
    repainted, hidden = batch["image"].copy(), np.asarray(patches.marks(N)).reshape(B, SIDE // PATCH, SIDE // PATCH)
    for row, y, x in zip(*np.nonzero(hidden), strict=True):
        repainted[row, y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH] ^= 255
    before, after = encode(batch), encode(batch | {"image": repainted})
    np.testing.assert_array_equal(before["unit"], after["unit"])
    for name in ("itm", "mlm", "gmlm"):
        np.testing.assert_array_equal(before[name].sum_B, after[name].sum_B)
    counted = np.asarray(before["mim"].count_B) > 0
    assert (np.asarray(before["mim"].sum_B) != np.asarray(after["mim"].sum_B))[counted].all()
    # Words: those that became the mask symbol; another word stood there.
    symbol = np.asarray(words.marks(L)) & (np.asarray(ids) == 3)
    after = encode(batch | {"text_ids": np.where(symbol, 4 + (batch["text_ids"] + 5) % (V - 4), batch["text_ids"])})
    np.testing.assert_array_equal(before["unit"], after["unit"])
    for name in ("itm", "mim", "gmim"):
        np.testing.assert_array_equal(before[name].sum_B, after[name].sum_B)
    assert symbol.any() and (np.asarray(before["mlm"].sum_B) != np.asarray(after["mlm"].sum_B)).any()


def test_mismatched_rows_count_for_matching_alone(encode):
    batch = batch_of()
    both = batch["has_image"] & batch["has_text"] & batch["valid"]
    rows = {name: np.asarray(sums.count_B) for name, sums in encode(batch).items() if name != "unit"}
    np.testing.assert_array_equal(rows["itm"], both)
    np.testing.assert_array_equal(rows["itm_hard_accuracy"], both & batch["hard_mismatch"])
    trains = batch["matched"] & batch["valid"]
    for name in ("mlm", "gmlm"):
        np.testing.assert_array_equal(rows[name] > 0, trains & batch["has_text"])
    for name in ("mim", "gmim"):
        np.testing.assert_array_equal(rows[name], np.where(trains & batch["has_image"], 3, 0))
    # Whatever stands in the mismatched rows: those sums stay.
    other, mixed = batch_of(seed=7), ~batch["matched"]
    swapped = batch | {
        "image": np.where(mixed[:, None, None, None], other["image"], batch["image"]),
        "text_ids": np.where(mixed[:, None] & (batch["text_ids"] > 3), 4 + other["text_ids"] % 50, batch["text_ids"]),
    }
    before, after = encode(batch), encode(swapped)
    for name in OBJECTIVES[1:]:
        np.testing.assert_array_equal(before[name].sum_B, after[name].sum_B)
    assert (np.asarray(before["itm"].sum_B) != np.asarray(after["itm"].sum_B))[mixed & both].all()


def test_flat_patches_are_no_targets_and_are_counted(encode):
    batch = batch_of()
    batch["image"][:8] = 200
    rows = encode(batch)
    assert not np.asarray(rows["mim"].sum_B)[:8].any() and not np.asarray(rows["gmim"].count_B)[:8].any()
    np.testing.assert_array_equal(rows["flat_patches"].sum_B[:8], rows["flat_patches"].count_B[:8])
    assert not np.asarray(rows["flat_patches"].sum_B)[8:].any()


def test_conditional_masks_one_modality_a_row_and_never_none(system):
    batch, conditional = batch_of(), build_system(config_of(mask_mode="conditional"), vocab_size=V, special_ids=SPECIAL)
    chosen = {name: [] for name in ("joint", "conditional")}
    choose = {
        name: jax.jit(lambda keys, which=which: tuple(part.used_BxM.any(axis=1) for part in which.choose(keys, batch)))
        for name, which in (("joint", system), ("conditional", conditional))
    }
    for seed in range(40):
        keys = split_keys(row_keys(jax.random.key(seed), batch["product_key"]), USES)
        for name, found in chosen.items():
            found.append(np.stack(choose[name](keys)))
    both = batch["has_image"] & batch["has_text"]
    joint, one = (np.stack(chosen[name]) for name in ("joint", "conditional"))
    assert joint[:, :, both].all()
    assert (one[:, :, both].sum(axis=1) == 1).all() and abs(one[:, 0, both].mean() - 0.5) < 0.1
    assert one[:, 0, ~batch["has_image"]].all() and one[:, 1, ~batch["has_text"]].all()


# -- The loss on meshes and in streams ---------------------------------------------------------------------------------


def naive(system, definition, params, batch):
    """Each row encoded alone; sums and counts divided once."""
    one_row = lambda row: system.encode(nnx.merge(definition, params), jax.tree.map(lambda x: x[None], row), RNG)
    rows = jax.lax.map(one_row, jax.tree.map(jnp.asarray, batch))
    return sum(rows[name].sum_B.sum() / rows[name].count_B.sum() for name in OBJECTIVES)


def loss_of(system, definition, params, batch, *, streams, mesh):
    encode = lambda params, rows: system.encode(nnx.merge(definition, params), rows, RNG)
    encoded = encode_in_streams(encode, params, batch, streams=streams, mesh=mesh)
    return system.contrast(nnx.merge(definition, params), encoded, batch, {}, mesh)[0]


@pytest.fixture(scope="module")
def reference(system, model):
    return jax.jit(jax.value_and_grad(partial(naive, system, model[0])))(model[1], batch_of())


SLOW = [((1, 1), 1), ((2, 1), 1), ((2, 2), 1), ((4, 1), 2)]


@pytest.mark.parametrize(
    ("shape", "streams"), [((2, 4), 1), ((1, 1), 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_loss_and_gradient_are_those_of_rows_alone(system, model, reference, shape, streams):
    mesh = mesh_of(*shape)
    placed = jax.device_put(model[1], replicated(mesh)), jax.device_put(batch_of(), batch_sharding(mesh))
    of = partial(loss_of, system, model[0], streams=streams, mesh=mesh)
    loss, gradient = jax.jit(jax.value_and_grad(of))(*placed)
    assert float(loss) == pytest.approx(float(reference[0]), abs=1e-5)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(reference[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=2e-4)


def test_metrics_and_adaptive_weights(model):
    adaptive = build_system(config_of(adaptive_weights=True), vocab_size=V, special_ids=SPECIAL)
    batch = batch_of()
    net = nnx.merge(*model)
    encoded = jax.jit(lambda batch: adaptive.encode(net, batch, RNG))(batch)
    loss, metrics, extra = adaptive.contrast(net, encoded, batch, {}, mesh_of(1, 1))
    weights = np.array([metrics[f"weight_{name}"] for name in OBJECTIVES])
    terms = np.array([metrics[f"loss_{name}"] for name in OBJECTIVES])
    assert weights.sum() == pytest.approx(1, abs=1e-6) and extra == {}
    assert float(loss) == pytest.approx(weights @ terms, abs=1e-5)
    assert float(metrics["mismatched"]) == pytest.approx(
        (~batch["matched"])[[0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 13, 14, 15]].mean()
    )
    assert float(metrics["masked_patches"]) == pytest.approx(3 / N)
    assert all(np.ndim(value) == 0 for value in metrics.values())


def test_an_objective_of_weight_zero_is_left_out_of_the_loss_and_of_the_log(model):
    config = config_of(**{"weights.gmlm": 0.0, "weights.itm": 0.0})
    system = build_system(config, vocab_size=V, special_ids=SPECIAL)
    net, batch = nnx.merge(*model), batch_of()
    encoded = jax.eval_shape(lambda batch: system.encode(net, batch, RNG), batch)
    assert not {"gmlm", "itm", "itm_accuracy"} & set(encoded) and {"mlm", "mim", "gmim"} <= set(encoded)
    contrast = lambda encoded, batch: system.contrast(net, encoded, batch, {}, mesh_of(1, 1))
    _, metrics, _ = jax.eval_shape(contrast, encoded, batch)
    assert {metric for _, metric, _ in system.shown} <= set(metrics)
    assert [label for label, _, _ in system.shown] == ["mlm", "mim", "gmim", "cos"]


# -- Embedding ---------------------------------------------------------------------------------------------------------


def test_views_are_unit_vectors_of_what_there_is(system, model):
    embed = jax.jit(lambda batch: system.embed(nnx.merge(*model), batch, system.views))
    batch, other = batch_of(), batch_of(seed=3)
    vectors = embed(batch)
    for view, rows in vectors.items():
        assert rows.shape == (B, 16) and rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(rows, embed(batch)[view])
    texts = {name: other[name] for name in ("text_ids", "text_mask")}
    repainted, retitled = embed(batch | {"image": other["image"]}), embed(batch | texts)
    np.testing.assert_array_equal(repainted["text"], vectors["text"])
    np.testing.assert_array_equal(retitled["image"], vectors["image"])
    assert (np.abs(repainted["product"] - vectors["product"]).max(axis=1) > 1e-5)[batch["has_image"]].all()
    np.testing.assert_array_equal(vectors["product"][5], vectors["text"][5])
    np.testing.assert_array_equal(vectors["product"][9], vectors["image"][9])


# -- Bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_mode": "both"}, "^mask_mode is 'both'; expected one of joint, conditional"),
        ({"mim_loss": "huber"}, "^mim_loss is 'huber'; expected one of l1, l2"),
        ({"global_pos_embed": "own"}, "^global_pos_embed is 'own'; expected one of shared, separate"),
        ({"text_mask_ratio": 0.0}, "^text_mask_ratio is 0.0; expected above 0"),
        ({"weights.itm": -1.0}, "^weights.itm is -1.0; expected at least 0"),
    ],
)
def test_a_wrong_field_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build_system(config_of(**changes), vocab_size=V, special_ids=SPECIAL)


def test_another_width_and_a_missing_mask_are_named():
    with pytest.raises(ValueError, match=r"^embed_dim is 8; expected joint.width, 16"):
        build_system(config_of() | {"embed_dim": 8}, vocab_size=V, special_ids=SPECIAL)
    with pytest.raises(UserError, match="no mask token"):
        build_system(config_of(), vocab_size=V)


# -- Learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_thirty_two_products_by_heart():
    """Random titles under pictures of one random tile: only the pair tells, and only g holds the masked words."""
    num, rng = 32, np.random.default_rng(0)
    config = config_of(batch_size=num, total_samples=500 * num, text_mask_ratio=0.15)
    config["joint"] |= {"width": 64, "depth": 2, "heads": 4}
    config["embed_dim"] = 64
    config["optimizer"] |= {"learning_rate": 3e-3, "warmup_samples": 20 * num}
    tiles = rng.integers(0, 256, (num, 2, 2, 3)).astype(np.uint8).repeat(PATCH // 2, axis=1).repeat(PATCH // 2, axis=2)
    pictures = np.tile(tiles, (1, SIDE // PATCH, SIDE // PATCH, 1))
    words = rng.integers(4, V, (num, L)).astype(np.int32)
    words[:, 0], words[:, -1] = 1, 2
    products = {
        "product_key": np.arange(num), "catalog_key": -1 - np.arange(num), "category_key": np.arange(num) % 8,
        "has_image": np.ones(num, bool), "has_text": np.ones(num, bool),
    }  # fmt: skip
    system, mesh = build_system(config, vocab_size=V, special_ids=SPECIAL), mesh_of(1, 1)
    optimizer = make_optimizer(config["optimizer"], schedule=learning_rate(config["optimizer"], make_stages(config)))
    definition, _ = define_model(system)
    abstract, init = make_state(system, optimizer, seed=0, mesh=mesh)
    step = make_train_step(system, definition, optimizer, abstract_state=abstract, seed=0, mesh=mesh)
    state, last = init(), []
    for number in range(500):
        partner, of_image, hard = draw_partners(
            products, rng=np.random.default_rng(number), share=0.5, same_category=0.5
        )
        batch = {
            "image": pictures[np.where(of_image, partner, np.arange(num))],
            "text_ids": words[np.where(of_image, np.arange(num), partner)],
            "text_mask": np.ones((num, L), bool),
            **{name: np.ones(num, bool) for name in ("has_image", "has_text", "valid")},
            "matched": partner == np.arange(num),
            "hard_mismatch": hard,
            "product_key": np.arange(num, dtype=np.int32),
        }
        state, metrics = step(state, batch)
        last = [*last[-19:], metrics]
    mean = lambda name: np.mean([float(metrics[name]) for metrics in last])
    assert mean("itm_accuracy") > 0.95
    assert mean("loss_gmlm") < 0.5 and mean("loss_mlm") < 0.5
    assert mean("loss_gmim") < 0.6
