"""eSSPR as a system: slots that are really masked, one call for all runs, losses against their formulas, any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

import ecommerce_vl as vl
from configs import same_style
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.losses.candidates import relate
from ecommerce_vl.losses.hinge import RULE
from ecommerce_vl.planning.program import abstract_batch
from ecommerce_vl.systems import build_system
from ecommerce_vl.systems.same_style import _crop, _drop_tokens, _ids
from ecommerce_vl.training.loop import train
from ecommerce_vl.training.mesh import batch_sharding
from ecommerce_vl.training.optimizer import learning_rate, make_optimizer
from ecommerce_vl.training.schedule import make_stages
from ecommerce_vl.training.state import define_model, make_state
from ecommerce_vl.training.step import make_train_step
from tests.modules import stirred

B, SIDE, L, VOCAB = 8, 16, 6, 50


def config_of(weights=None, **loss):
    config = same_style.get_config("tiny")
    config.batch_size, config.total_samples = B, 10 * B
    config.image.size, config.image.patch_size, config.image.stem = SIDE, 8, "patch"
    config.text.max_length, config.text.vocab_size = L, VOCAB
    config.joint.width, config.joint.depth, config.joint.heads, config.embed_dim = 16, 1, 2, 8
    config.optimizer.learning_rate, config.optimizer.warmup_samples = 1e-3, B
    config.loss.update(loss)
    config.weights.update(weights or {})
    return config.to_dict()


def system_of(**loss):
    return build_system(config_of(**loss), vocab_size=VOCAB)


def products(seed, *, rows=B):
    rng = np.random.default_rng(seed)
    unique = np.arange(rows, dtype=np.int32) + 100 * seed
    return {
        "image": rng.integers(0, 256, (rows, SIDE, SIDE, 3)).astype(np.uint8),
        "text_ids": rng.integers(3, VOCAB, (rows, L)).astype(np.int32),
        "text_mask": np.arange(L) < rng.integers(2, L, (rows, 1)),
        **{name: np.ones(rows, bool) for name in ("has_image", "has_text", "valid", "matched")},
        "hard_mismatch": np.zeros(rows, bool),
        "product_key": unique,
        **{name: -1 - unique for name in ("catalog_key", "group_key", "category_key")},
    }


def pairs(*, rows=B):
    """A batch of pairs with weights, a missing picture, a missing title, padding, and rows that share products."""
    left, right = products(1, rows=rows), products(2, rows=rows)
    left["has_image"][1] = left["has_text"][2] = right["has_text"][3] = False
    right["product_key"][5] = left["product_key"][0]
    left["group_key"][6] = right["group_key"][7] = 77
    valid = np.arange(rows) != 4
    style = np.arange(rows, dtype=np.int32)
    style[7] = style[1]  # connected by pairs that are not in the batch
    weight = np.linspace(0.5, 2, rows, dtype=np.float32)
    return {"left": left, "right": right, "weight": weight, "style_key": style, "valid": valid}


@pytest.fixture(scope="module")
def model():
    """With branches that are not zero, so that everything that is seen can show."""
    return stirred(system_of().build(nnx.Rngs(0)))


@pytest.fixture(scope="module")
def encode(model):
    system = system_of(trans_views=("text_only", "image_only", "aug_view"))
    graphdef, state = nnx.split(model)
    compiled = jax.jit(lambda state, batch: system.encode(nnx.merge(graphdef, state), batch, jax.random.key(0)))
    return lambda batch: jax.device_get(compiled(state, batch))


def test_a_masked_slot_leaves_no_trace(encode):
    batch, other = pairs(), pairs()
    other["left"]["image"] = products(3)["image"]
    first, second = encode(batch), encode(other)
    np.testing.assert_array_equal(first["text"], second["text"])
    assert np.abs(first["image"] - second["image"]).max(axis=1)[[0, 2, 3]].min() > 1e-3
    other = pairs()
    other["left"]["text_ids"], other["left"]["text_mask"] = products(4)["text_ids"], ~batch["left"]["text_mask"]
    second = encode(other)
    np.testing.assert_array_equal(first["image"], second["image"])
    assert np.abs(first["text"] - second["text"]).max(axis=1)[[0, 1, 3]].min() > 1e-3


def test_one_call_is_four_and_a_row_depends_on_itself_alone(model, encode):
    batch = pairs()
    together = encode(batch)
    for name, (side, image, text) in {
        "both": ("left", True, True), "text": ("left", False, True), "image": ("left", True, False),
        "right": ("right", True, True),
    }.items():  # fmt: skip
        of = jax.tree.map(jnp.asarray, batch[side])
        alone = model(
            of["image"], of["text_ids"], of["text_mask"], has_image_B=of["has_image"] & image,
            has_text_B=of["has_text"] & text,
        )  # fmt: skip
        np.testing.assert_allclose(together[name], alone, atol=1e-5)
    order = np.random.default_rng(0).permutation(B)
    turned = encode(jax.tree.map(lambda rows: rows[order], batch))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[order], y, atol=1e-6), together, turned)


def test_served_views_are_the_runs_of_training(model, encode):
    batch = pairs()
    served = system_of().embed(model, batch["left"], ("image", "text", "product"))
    trained = encode(batch)
    for view, run in {"image": "image", "text": "text", "product": "both"}.items():
        np.testing.assert_allclose(served[view], trained[run], atol=1e-5)


def test_which_rows_are_not_negatives_of_each_other():
    left, right = products(1), products(2)
    right["product_key"][5] = left["product_key"][0]  # across
    left["catalog_key"][[1, 2]] = 9  # left with left
    right["group_key"][[3, 6]] = 9  # right with right
    left["group_key"][4] = 11  # an id of another relation is another id
    right["catalog_key"][7] = 11
    style = np.where(np.isin(np.arange(B), (2, 5)), 50, np.arange(B))
    row, column = _ids(left, right, jnp.asarray(style), jnp.ones(B, bool))
    relation = relate(RULE, row, column, paired=True)
    apart = np.asarray(~relation.shown_rxc & ~relation.own_rxc)
    expected = np.zeros((B, B), bool)
    for i, j in ((0, 5), (1, 2), (3, 6), (2, 5)):
        expected[i, j] = expected[j, i] = True
    np.testing.assert_array_equal(apart, expected)


# -- The losses of `contrast` against the formulas, in float64 ---------------------------------------------------------


def reference(z, batch, loss, weights):
    """L by the formulas, with loops over rows; `z` maps runs to (B,D)."""
    z = {name: np.asarray(vectors, np.float64) for name, vectors in z.items()}
    left, right = batch["left"], batch["right"]
    keep = [i for i in range(B) if batch["valid"][i]]
    sees = {
        "both": np.ones(B, bool), "text": left["has_text"], "image": left["has_image"], "augmented": np.ones(B, bool),
        "right": np.ones(B, bool), "right_text": right["has_text"], "right_image": right["has_image"],
    }  # fmt: skip
    names = ("product_key", "catalog_key", "group_key")
    ids = [{(n, int(side[n][i])) for side in (left, right) for n in names} for i in range(B)]
    ids = [of_row | {("style", int(batch["style_key"][i]))} for i, of_row in enumerate(ids)]

    def mean(losses, rows):
        return sum(batch["weight"][i] * losses[i] for i in rows) / sum(batch["weight"][i] for i in rows)

    def match(x, r, margin, rows=keep):
        columns = [j for j in keep if sees[r][j]]
        losses = {}
        for i in keep:
            negatives = [j for j in columns if j != i and not ids[i] & ids[j]]
            own = z[x][i] @ z[r][i]
            if loss["infonce"] and margin is None:
                columns_of = [j for j in [i, *negatives] if sees[x][j]]
                logits = np.array([z[x][i] @ z[r][j] for j in columns_of]) / loss["temperature"]
                losses[i] = np.log(np.exp(logits - logits[0]).sum())
            else:
                losses[i] = sum(max(0.0, z[x][i] @ z[r][j] - own + margin) for j in negatives) / len(columns)
        return mean(losses, [i for i in rows if sees[x][i] and sees[r][i]])

    margin = None if loss["infonce"] else loss["margin_ppm"]
    columns = ("right", "right_text", "right_image") if loss["omni_pairs"] else ("right",)
    total = 0.0
    for x in ("both", "text", "image"):
        for r in columns:
            forward = match(x, r, margin)
            total += ((forward + match(r, x, margin)) / 2 if loss["symmetric"] else forward) / len(columns)
    whole = [i for i in keep if left["has_text"][i] and left["has_image"][i]]
    views = ["text", "image"] + ["augmented"] * ("aug_view" in loss["trans_views"])
    for view in views:
        moved = {}
        for i in keep:
            top = sorted(keep, key=lambda j, i=i: -(z["both"][i] @ z["right"][j]))[: loss["locality_k"]]
            differences = [(z["both"][i] - z[view][i]) @ z["right"][j] for j in top]
            moved[i] = sum(max(0.0, d**2 - loss["margin_locality"]) for d in differences) / len(top)
        total += weights["pdc"] * match(view, "both", loss["margin_pdc"], whole) / len(views)
        total += weights["locality"] * mean(moved, whole) / len(views)
    return total


@pytest.mark.parametrize(
    "switches",
    [
        {"weights": {"pdc": 0.7, "locality": 3.0}, "locality_k": 3},
        {"symmetric": True, "weights": {"locality": 0.5}},
        {"omni_pairs": True, "trans_views": ("text_only", "image_only", "aug_view")},
        {"infonce": True, "weights": {"pdc": 0.0, "locality": 0.0}},
        {"infonce": True, "symmetric": True, "omni_pairs": True},
    ],
    ids=lambda switches: "-".join(switches),
)
def test_the_loss_is_the_formula(switches):
    system, batch = system_of(**switches), pairs()
    rng = np.random.default_rng(5)
    z = {name: rng.normal(size=(B, 8)).astype(np.float32) for name in system.runs}
    z = {name: vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for name, vectors in z.items()}
    mesh = mesh_of(1, 1)
    contrast = jax.jit(lambda z, batch: system.contrast(None, z, batch, {}, mesh)[:2])
    value, metrics = contrast(z, batch)
    assert float(value) == pytest.approx(reference(z, batch, system.loss, system.config["weights"]), abs=2e-5)
    assert {label for _, label, _ in system.shown} <= set(metrics)
    assert np.isfinite([float(metric) for metric in metrics.values()]).all()


def test_vectors_of_zero_have_finite_gradients():
    system, batch = system_of(), pairs()
    zeros = {name: jnp.zeros((B, 8)) for name in system.runs}

    def loss(x):
        from ecommerce_vl.models.dual import unit

        return system.contrast(None, {name: unit(rows) for name, rows in x.items()}, batch, {}, mesh_of(1, 1))[0]

    value, grads = jax.jit(jax.value_and_grad(loss))(zeros)
    assert np.isfinite(float(value)) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


# -- The step ----------------------------------------------------------------------------------------------------------


def mesh_of(data, fsdp):
    devices = jax.devices()[: data * fsdp]
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=devices)


def run_steps(config, mesh, batches, *, streams=1):
    """Losses and gradient norms of steps from fresh weights, and the last parameters."""
    system = build_system(config, vocab_size=VOCAB)
    optimizer = make_optimizer(config["optimizer"], schedule=learning_rate(config["optimizer"], make_stages(config)))
    graphdef, _ = define_model(system)
    abstract, init = make_state(system, optimizer, seed=0, mesh=mesh)
    rows = config["batch_size"] // streams
    step = make_train_step(
        system, graphdef, optimizer, abstract_state=abstract, seed=0, mesh=mesh, rows_per_stream=rows
    )  # fmt: skip
    state, found = init(), []
    for batch in batches:
        state, metrics = step(state, jax.device_put(batch, batch_sharding(mesh)))
        found.append(
            [
                float(metrics[name])
                for name in ("loss", "grad_norm", "loss_ppm", "loss_pdc", "loss_locality", "product_rank")
            ]
        )
    return found, jax.device_get(state.params)


@pytest.fixture(scope="module")
def one_device():
    config = config_of()
    return config, run_steps(config, mesh_of(1, 1), [pairs()] * 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "streams"),
    [((2, 2), 2), pytest.param((1, 1), 2, marks=pytest.mark.slow), pytest.param((8, 1), 1, marks=pytest.mark.slow)],
)
def test_training_is_the_same_on_every_mesh_and_in_streams(one_device, shape, streams):
    config, (expected, params) = one_device
    found, others = run_steps(config, mesh_of(*shape), [pairs()] * 2, streams=streams)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=3e-5), others, params)


@pytest.mark.slow
def test_sixty_four_pairs_are_learned_by_heart():
    config = config_of()
    config["batch_size"], config["total_samples"] = 64, 64 * 500
    config["joint"] |= {"width": 32, "depth": 2}
    config["embed_dim"] = 32
    config["optimizer"] |= {"learning_rate": 3e-3, "warmup_samples": 64 * 20}
    left, right = products(1, rows=64), products(2, rows=64)
    batch = {"left": left, "right": right, "weight": np.ones(64, np.float32), "valid": np.ones(64, bool)}
    batch["style_key"] = np.arange(64, dtype=np.int32)
    found, params = run_steps(config, mesh_of(1, 1), [batch] * 500)
    system = build_system(config, vocab_size=VOCAB)
    model = nnx.merge(define_model(system)[0], params)
    x, r = (np.asarray(system.embed(model, side, ("product",))["product"]) for side in (left, right))
    assert ((x @ r.T).argmax(axis=1) == np.arange(64)).all(), found[-1]


def test_the_augmented_view_is_a_window_and_hides_some_tokens():
    key = jax.random.key(0)
    ramp = np.tile(np.linspace(0, 255, 32)[None, :, None], (32, 1, 3)).astype(np.uint8)
    for k in range(3):
        found = np.asarray(_crop(jnp.asarray(ramp), jax.random.fold_in(key, k))).astype(int)
        steps = np.diff(found[16, 2:-2, 0])
        assert (steps >= 0).all() and found.shape == ramp.shape
        assert 0.65 < (found[16, 29, 0] - found[16, 2, 0]) / (ramp[16, 29, 0] - ramp[16, 2, 0] + 0.0) < 1.03
    mask = jnp.arange(100) < 60
    kept = np.asarray(_drop_tokens(mask, key))
    assert not (kept & ~np.asarray(mask)).any() and kept[0] and 40 <= kept.sum() < 60


@pytest.mark.parametrize(
    ("field", "value"), [("matched_views", ("product",)), ("trans_views", ("crop",)), ("matched_views", ())]
)
def test_a_wrong_choice_is_named_with_what_there_is(field, value):
    with pytest.raises(ValueError, match=f"loss.{field} .*expected"):
        system_of(**{field: value})
    with pytest.raises(ValueError, match=r"weights.* is -1.*expected at least 0"):
        system_of(weights={"pdc": -1.0})


def test_the_plan_knows_the_batch():
    found = abstract_batch(config_of(), mesh_of(1, 1))
    batch = pairs()
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), batch)


@pytest.mark.slow
def test_a_run_on_pairs_of_listings_gives_an_encoder_that_reads_a_picture_with_words(sample_data, tmp_path):
    config = config_of()
    config["total_samples"] = 3 * B
    config["data"] |= {"path": str(sample_data), "pairs": "group", "num_workers": 0}
    config["log_every"] = 1
    lines = []
    train(config, tmp_path / "run", build_system=build_system, log=lines.append)
    assert any("pairs of" in line and "listings of one group" in line for line in lines)
    encoder = vl.load(tmp_path / "run")
    records = PreparedData(sample_data).records("train", pairs_only=True)
    some = [records[row] for row in range(3)]
    views = encoder.embed_views(some)
    pictures, titles = [record["images"][0] for record in some], [record["title"] for record in some]
    # Both slots of one pass: with its own title it is the product, with other words another vector.
    np.testing.assert_allclose(encoder.embed_composed(pictures, titles), views["product"], atol=1e-5)
    assert np.abs(encoder.embed_composed(pictures, ["white"] * 3) - views["product"]).max(axis=1).min() > 1e-4
    np.testing.assert_allclose(encoder.embed_composed(pictures, [""] * 3), views["image"], atol=1e-5)
    with pytest.raises(ValueError, match="reads both in one pass, without a weight"):
        encoder.embed_composed(pictures, titles, text_weight=0.5)
