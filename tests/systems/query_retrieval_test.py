"""Query retrieval, MAKE and fine-tuning as systems: one step on every mesh and in streams, bank, towers, ids."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

from configs import make, query_finetune, query_retrieval
from ecommerce_vl.losses.candidates import NO_KEY, Candidates, Rule
from ecommerce_vl.losses.contrastive import candidate_loss
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.mesh import batch_sharding
from ecommerce_vl.training.optimizer import make_optimizer
from ecommerce_vl.training.state import define_model, make_state
from ecommerce_vl.training.step import make_train_step
from ecommerce_vl.training.streams import encode_in_streams
from tests.modules import noisy, stirred

ROWS, VOCAB, LENGTH, QUERY = 16, 60, 8, 5


def config_of(variant=query_retrieval, **changes):
    config = variant.get_config("tiny")
    config.batch_size = ROWS
    config.image.size, config.image.patch_size, config.image.stem = 16, 8, "patch"
    config.joint.width, config.joint.depth, config.joint.heads = 16, 1, 2
    config.cross.width, config.cross.depth, config.cross.heads = 8, 1, 2
    config.text.max_length, config.text.query_length = LENGTH, QUERY
    config.embed_dim, config.mpm.candidates, config.mlm.ratio, config.mpm.ratio = 8, 32, 0.3, 0.3
    config.bank.size, config.bank.start_step = 2 * ROWS, 1
    if "id_rows" in config.data:
        config.data.id_rows = 4 * ROWS
    config.update_from_flattened_dict(changes)
    return config.to_dict()


def system_of(config):
    return build_system(config, vocab_size=VOCAB, special_ids={"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "mask": 3})


def batch_of(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    length = lambda size: np.arange(size)[None] < rng.integers(2, size + 1, (rows, 1))
    words = np.full((rows, 3), NO_KEY, np.int32)
    words[:, 0] = np.arange(rows) // 2
    return {
        "query": {
            "text_ids": rng.integers(1, VOCAB, (rows, QUERY)).astype(np.int32),
            "text_mask": length(QUERY),
            "query_key": np.where(np.arange(rows) < 2, 0, np.arange(rows)).astype(np.int32),
            "keywords": words,
        },
        "product": {
            "image": rng.integers(0, 256, (rows, 16, 16, 3)).astype(np.uint8),
            "text_ids": rng.integers(1, VOCAB, (rows, LENGTH)).astype(np.int32),
            "text_mask": length(LENGTH),
            "has_image": np.arange(rows) != 3,
            "has_text": np.arange(rows) != 6,
            "product_key": (np.arange(rows) + 100 * seed).astype(np.int32),
            "catalog_key": np.where(np.arange(rows) % 7 == 0, 7, -1 - np.arange(rows)).astype(np.int32),
            "group_key": -1 - np.arange(rows, dtype=np.int32),
            "category_key": (np.arange(rows) // 4).astype(np.int32),
            "id_row": np.arange(rows, dtype=np.int32),
        },
        "weight": rng.uniform(0.2, 5, rows).astype(np.float32),
        "known": np.where(np.arange(4) == 0, np.arange(rows)[:, None], NO_KEY).astype(np.int32),
        "valid": np.arange(rows) != 9,
    }


def mesh_of(data, fsdp):
    devices = jax.devices()[: data * fsdp]
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=devices)


OPTIMIZER = {
    "name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1, "b1": 0.9, "b2": 0.98, "eps": 1e-6, "grad_clip": 1.0
}  # fmt: skip


def run(config, mesh, *, steps, streams=1):
    system = system_of(config)
    optimizer = make_optimizer(OPTIMIZER, schedule=lambda step: 1e-2)
    abstract, init = make_state(system, optimizer, seed=0, mesh=mesh)
    step = make_train_step(
        system, define_model(system)[0], optimizer, abstract_state=abstract, seed=0, mesh=mesh,
        rows_per_stream=ROWS // streams,
    )  # fmt: skip
    state = init()
    state.params = jax.tree.map(
        lambda x, old: jax.device_put(x, old.sharding), noisy(jax.device_get(state.params)), state.params
    )
    rows = []
    for seed in range(steps):
        state, metrics = step(state, jax.device_put(batch_of(seed=seed), batch_sharding(mesh)))
        rows.append(jax.device_get(metrics))
    return state, rows


@functools.cache
def alone(variant):
    state, rows = run(config_of(variant), mesh_of(1, 1), steps=3)
    return jax.device_get(state), rows


@pytest.mark.slow
def test_the_loss_is_the_same_on_eight_devices_and_in_streams():
    config, mesh = config_of(), mesh_of(2, 4)
    system, sharding = system_of(config), batch_sharding(mesh)
    definition, state = nnx.split(system.build(nnx.Rngs(0)))
    params, batch = noisy(nnx.to_pure_dict(state)), jax.device_put(batch_of(), sharding)
    rng = jax.random.fold_in(jax.random.key(0), 0)

    def loss(params, batch):
        def encode(params, rows):
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return system.encode(nnx.merge(definition, params), rows, rng)

        encoded = encode_in_streams(encode, params, batch, streams=2, mesh=mesh)
        return system.contrast(nnx.merge(definition, params), encoded, batch, system.make_extra(), mesh)[:2]

    total, found = jax.device_get(jax.jit(loss)(params, batch))
    wanted = alone(query_retrieval)[1][0]
    for name, value in (found | {"loss": total}).items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "shape", "streams"),
    [
        pytest.param(query_retrieval, (2, 4), 2, id="8-devices-2-streams"),
        pytest.param(query_retrieval, (2, 1), 1, id="2-devices"),
        pytest.param(query_retrieval, (4, 1), 4, id="4-devices-4-streams"),
        pytest.param(make, (8, 1), 2, id="make-8-devices-2-streams"),
        pytest.param(query_finetune, (2, 4), 2, id="finetune-8-devices-2-streams"),
    ],
)
def test_a_step_is_the_same_on_every_mesh_and_in_streams(variant, shape, streams):
    wanted_state, wanted = alone(variant)
    state, found = run(config_of(variant), mesh_of(*shape), steps=3, streams=streams)
    for step, (one, other) in enumerate(zip(wanted, found, strict=True)):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(other[name], one[name], rtol=3e-4, atol=3e-5, err_msg=f"{name}, step {step}")
    for one, other in zip(
        jax.tree.leaves(wanted_state.extra), jax.tree.leaves(jax.device_get(state.extra)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.slow
def test_the_bank_waits_fills_and_counts():
    _, rows = alone(query_retrieval)
    assert [float(row["bank_filled"]) for row in rows] == [0.0, 0.5, 1.0]
    negatives = [float(row["negatives_per_row"]) for row in rows]
    assert negatives[0] < ROWS < negatives[1] < negatives[2] < 3 * ROWS
    for row in rows:
        assert 1 <= row["effective_negatives"] <= row["negatives_per_row"]
        assert 0 < row["left_out"] < 1 and np.isfinite(list(row.values())).all()


@pytest.mark.slow
def test_every_objective_is_there_and_the_loss_is_their_sum():
    _, rows = alone(query_retrieval)
    parts = [float(rows[0][f"loss_{name}"]) for name in ("qpc", "mlm", "mpm", "qpm", "qim")]
    assert min(parts) > 0
    assert float(rows[0]["loss"]) == pytest.approx(sum(parts), rel=1e-5)


def model_of(config):
    system = system_of(config)
    return system, stirred(system.build(nnx.Rngs(0)))


def contrasted(config, batch, *, steps=1):
    """Metrics of the last of some equal batches, and what was encoded."""
    (system, model), mesh = model_of(config), mesh_of(2, 1)
    encoded = jax.jit(lambda rows: system.encode(model, rows, jax.random.key(0)))(batch)
    contrast = jax.jit(lambda encoded, batch, extra: system.contrast(model, encoded, batch, extra, mesh)[1:])
    extra = system.make_extra()
    for _ in range(steps):
        metrics, extra = contrast(encoded, batch, extra)
    return jax.device_get(metrics), encoded


def test_the_retrieval_loss_is_the_sum_of_both_ways():
    changes = {f"weights.{name}": 0.0 for name in ("mlm", "mpm", "qpm", "qim")} | {"bank.size": 0}
    batch = batch_of()
    both, encoded = contrasted(config_of(**changes), batch)
    one, _ = contrasted(config_of(**changes | {"loss.both": False}), batch)
    query, product = batch["query"], batch["product"]
    shown, groups = query["text_mask"].any(axis=1), np.stack([product["catalog_key"], query["query_key"]], axis=1)
    keys = {"group_CxG": groups, "weight_C": batch["weight"]}
    queries = Candidates(encoded["query"], product["product_key"], batch["valid"] & shown, **keys)
    rule, scale = Rule(label_mode="mask", margin=0.1, both=False), -np.log(both["temperature"])
    back, _ = jax.jit(lambda z: candidate_loss(z, queries, scale, rule=rule, mesh=mesh_of(2, 1)))(encoded["product"])
    assert both["loss_qpc"] == pytest.approx(one["loss_qpc"] + float(back), rel=1e-5)


def test_keywords_that_no_two_queries_share_leave_the_retrieval_loss_without_its_margin():
    """pos(i) = {i}; the bank's products are negatives of both."""
    batch = batch_of()
    batch["query"]["keywords"][:] = NO_KEY
    changes = {"loss.both": False, "loss.margin": 0.0, "loss.span": 8, "bank.start_step": 1}
    metrics, _ = contrasted(config_of(make, **changes), batch, steps=2)
    assert metrics["bank_filled"] > 0 and metrics["keyword_positives"] == 1
    assert metrics["loss_keyword"] == pytest.approx(metrics["loss_qpc"], rel=1e-6)


@pytest.mark.parametrize("variant", [pytest.param(query_retrieval, marks=pytest.mark.slow), make])
def test_product_vectors_do_not_depend_on_the_queries_nor_on_other_products(variant):
    system, model = model_of(config_of(variant))
    encode = jax.jit(lambda rows: system.encode(model, rows, jax.random.key(0))["product"])
    batch, other = batch_of(), batch_of(seed=5)
    first = encode(batch)
    np.testing.assert_array_equal(
        first, encode({**batch, "query": {**other["query"], "query_key": batch["query"]["query_key"]}})
    )
    half = {
        **batch,
        "product": jax.tree.map(lambda a, b: np.concatenate([a[:8], b[8:]]), batch["product"], other["product"]),
    }
    np.testing.assert_allclose(encode(half)[:8], first[:8], atol=1e-6)
    embedded = jax.jit(lambda rows: system.embed(model, rows, ("product",)))(batch["product"])["product"]
    np.testing.assert_allclose(embedded, first, atol=1e-5)


def test_views_are_unit_vectors_of_what_they_say():
    system, model = model_of(config_of())
    product = batch_of()["product"]
    views = jax.device_get(jax.jit(lambda rows: system.embed(model, rows, system.views))(product))
    for view, vectors in views.items():
        norms = np.linalg.norm(vectors, axis=1)
        absent = {"image": ~product["has_image"], "text": ~product["has_text"]}.get(view, np.zeros(ROWS, bool))
        np.testing.assert_allclose(norms[~absent], 1, atol=1e-5)
        np.testing.assert_allclose(norms[absent], 0, atol=1e-6)  # mean pooling of nothing
    words = {name: product[name] for name in ("text_ids", "text_mask")}  # all that a query needs
    alone = jax.jit(lambda rows: system.embed(model, rows, ("query",)))(words)["query"]
    np.testing.assert_allclose(alone, views["query"], atol=1e-6)
    np.testing.assert_allclose(views["product"][3], views["text"][3], atol=1e-5)
    np.testing.assert_allclose(views["product"][6], views["image"][6], atol=1e-5)


def test_the_margin_and_the_temperature_of_the_definition():
    """s = 0.5 and 0.3, 0.1 at tau 0.05: 0.018479 without margin, 0.129109 with 0.1."""
    query = np.array([[1.0, 0, 0]] * 3, np.float32)
    cosine = np.array([0.5, 0.3, 0.1], np.float32)
    product = np.stack([cosine, np.sqrt(1 - cosine**2), np.zeros(3)], axis=1).astype(np.float32)
    pairs = Candidates(
        product, np.arange(3, dtype=np.int32), np.ones(3, bool), weight_C=np.array([1.0, 0, 0], np.float32)
    )
    for margin, wanted in ((0.0, 0.018479), (0.1, 0.129109)):
        rule = Rule(label_mode="mask", margin=margin, both=False)
        run = jax.jit(lambda q, p, rule=rule: candidate_loss(q, p, np.log(20), rule=rule, mesh=mesh_of(1, 1))[0])
        value = run(query, pairs)
        assert float(value) == pytest.approx(wanted, abs=2e-6)


def test_a_group_of_one_row_has_no_negatives_and_all_rows_are_cross_device():
    rng = np.random.default_rng(0)
    unit = lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    query, product = unit(rng.normal(size=(8, 4))), unit(rng.normal(size=(8, 4)))
    pairs = Candidates(product, np.arange(8, dtype=np.int32), np.ones(8, bool))

    def loss(span, mesh):
        rule = Rule(label_mode="mask", margin=0.1, span=span)
        return float(jax.jit(lambda q, p: candidate_loss(q, p, 2.0, rule=rule, mesh=mesh)[0])(query, pairs))

    assert loss(1, mesh_of(1, 1)) == pytest.approx(0, abs=1e-6)
    assert loss(8, mesh_of(1, 1)) == pytest.approx(loss(0, mesh_of(1, 1)), abs=1e-6)
    assert loss(0, mesh_of(4, 1)) == pytest.approx(loss(0, mesh_of(1, 1)), abs=1e-5)


def test_fine_tuning_begins_with_the_pretrained_space():
    _, pretrained = model_of(config_of())
    system, tuned = model_of(config_of(query_finetune))
    fresh = system.build(nnx.Rngs(0)).recall
    nnx.update(tuned, nnx.state(pretrained).filter(lambda path, _: path[0] in ("joint", "projection")))
    nnx.update(tuned.recall, nnx.state(fresh))
    product = batch_of()["product"]
    embed = lambda model, of: jax.jit(lambda rows: of.embed(model, rows, system.views))(product)
    for view, vectors in embed(tuned, system).items():
        np.testing.assert_allclose(vectors, embed(pretrained, system_of(config_of()))[view], atol=1e-5, err_msg=view)


@pytest.mark.slow
def test_an_id_is_embedded_where_it_was_trained_and_content_is_all_elsewhere():
    state, rows = alone(query_finetune)
    system = system_of(config_of(query_finetune))
    begun = noisy(nnx.to_pure_dict(nnx.state(system.build(nnx.Rngs(0)))))["recall"]["table"]
    table = state.params["recall"]["table"] - begun  # what training gave
    trained = table.any(axis=1)
    assert table.shape == (4 * ROWS, 8) and trained[:ROWS].sum() > ROWS // 2 and not trained[ROWS:].any()
    assert not trained[9], "a row that is not valid trains nothing"
    params = state.params | {"recall": state.params["recall"] | {"table": table}}
    model = nnx.merge(define_model(system)[0], jax.tree.map(jnp.asarray, params))
    embed = jax.jit(lambda rows: system.embed(model, rows, ("product",))["product"])
    product = batch_of()["product"]
    by_id = {"own": product["id_row"], "new": product["id_row"] + ROWS, "none": np.full(ROWS, -1, np.int32)}
    found = {name: embed({**product, "id_row": ids}) for name, ids in by_id.items()}
    np.testing.assert_array_equal(found["new"], found["none"])
    assert (np.abs(found["own"] - found["none"]).max(axis=1) > 1e-4).tolist() == trained[:ROWS].tolist()
    np.testing.assert_allclose(np.linalg.norm(found["own"], axis=1), 1, atol=1e-5)
    assert "loss_qpc" in rows[0] and {"loss_mlm", "loss_mpm", "loss_qpm", "loss_qim"}.isdisjoint(rows[0])


def test_hard_products_are_as_many_as_random_ones():
    _, rows = alone(query_finetune)
    _, without = run(config_of(query_finetune, **{"loss.hard": False}), mesh_of(1, 1), steps=1)
    random, both = float(without[0]["negatives_per_row"]), float(rows[0]["negatives_per_row"])
    assert random < both <= random + ROWS, "a row may have drawn what another row must not meet"
    assert float(rows[0]["loss"]) > float(without[0]["loss"])


def test_a_wrong_share_of_lost_ids_is_named():
    with pytest.raises(ValueError, match="ids.dropout is 1.0; expected 0 to less than 1"):
        system_of(config_of(query_finetune, **{"ids.dropout": 1.0}))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["am_softmax", "softmax", "sigmoid"])
def test_other_objectives_and_forms_train(objective):
    config = config_of(**{"loss.objective": objective, "weights.qpm": 0.0, "weights.qim": 0.0, "weights.mlm": 0.0})
    config["mpm"]["form"] = {"am_softmax": "pixels", "softmax": "regression", "sigmoid": "kl"}[objective]
    _, rows = run(config, mesh_of(1, 1), steps=1)
    assert np.isfinite(rows[0]["loss"]) and rows[0]["loss_mpm"] > 0 and rows[0]["grad_norm"] > 0


@pytest.mark.slow
def test_pixels_of_masked_patches_are_predicted_where_they_show_anything():
    """L1 of pixels with mean 0 and variance 1 in each patch; a picture of one colour counts nowhere."""
    changes = {f"weights.{name}": 0.0 for name in ("mlm", "qpm", "qim")} | {"mpm.form": "pixels"}
    system, model = model_of(config_of(**changes))
    batch = batch_of()
    batch["product"]["image"][5] = 77
    encoded = jax.jit(lambda rows: system.encode(model, rows, jax.random.key(0)))(batch)
    count, shown = np.asarray(encoded["patches"].count_B), batch["product"]["has_image"] & batch["valid"]
    assert count[5] == 0 and (count[shown & (np.arange(ROWS) != 5)] > 0).all() and not count[~shown].any()
    mean = np.asarray(encoded["patches"].sum_B)[count > 0] / count[count > 0]
    assert (mean > 0.3).all() and (mean < 3).all(), "of pixels with variance 1"


def test_the_temperature_stays_within_its_limits():
    system = system_of(config_of())
    for start, wanted in ((-1.0, 0.0), (9.0, np.log(100))):
        found = system.constrain({"logit_scale": jnp.float32(start)})["logit_scale"]
        assert float(found) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss.objective": "hinge"}, "loss.objective is 'hinge'; expected one of am_softmax"),
        ({"mpm.form": "l3"}, "mpm.form is 'l3'; expected one of contrastive"),
        ({"mpm.candidates": 3}, "mpm.candidates is 3; expected at least batch_size, 16"),
        ({"weights.keyword": 1.0}, "data.keywords is 0"),
    ],
)
def test_a_wrong_choice_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        system_of(config_of(**change))


def test_a_bank_that_no_batch_fills_evenly_is_named():
    with pytest.raises(ValueError, match="bank.size is 40; expected a multiple of the smallest batch, 16"):
        system_of(config_of(**{"bank.size": 40})).make_extra()


@pytest.mark.slow
def test_it_learns_64_pairs_by_heart():
    config = config_of(**{"weights.mlm": 0.0, "weights.mpm": 0.0, "weights.qpm": 0.0, "weights.qim": 0.0})
    config["batch_size"], config["bank"]["size"], config["embed_dim"] = 64, 0, 32
    config["joint"]["width"] = 48
    system, mesh, batch = system_of(config), mesh_of(1, 1), batch_of(rows=64)
    batch["valid"][:] = True
    batch["query"]["text_ids"][:, 0] = 4 + np.arange(64) % 50  # distinct queries
    batch["query"]["text_ids"][:, 1], batch["query"]["text_mask"][:, 1] = 4 + np.arange(64) // 50, True
    batch["query"]["query_key"] = np.arange(64, dtype=np.int32)
    batch["product"]["catalog_key"] = -1 - np.arange(64, dtype=np.int32)
    optimizer = make_optimizer(OPTIMIZER | {"grad_clip": 1e9}, schedule=lambda step: 3e-3)
    abstract, init = make_state(system, optimizer, seed=0, mesh=mesh)
    step = make_train_step(system, define_model(system)[0], optimizer, abstract_state=abstract, seed=0, mesh=mesh)
    state, batch = init(), jax.device_put(batch, batch_sharding(mesh))
    for _ in range(500):
        state, metrics = step(state, batch)
        if metrics["q2p_top1"] == 1.0:
            break
    assert float(metrics["q2p_top1"]) == 1.0
