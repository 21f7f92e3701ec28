"""The memory bank: order, places, gradient, devices, checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from reference import mesh_of, reference_value_and_grad, unit_rows

from ecommerce_vl.losses.bank import as_candidates, drift, filled, make_bank, push
from ecommerce_vl.losses.candidates import Candidates, Rule
from ecommerce_vl.losses.contrastive import candidate_loss
from ecommerce_vl.training.checkpoint import Checkpoints

step = jax.jit(push, donate_argnums=0)


def batch_of(first_key, rows=4, dim=2):
    key = jnp.arange(first_key, first_key + rows)
    return Candidates(jnp.tile(key[:, None].astype(jnp.float32), (1, dim)), key, key % 3 != 0, key[:, None] + 100)


def stored(bank):
    """Keys of all slots that were written."""
    candidates = as_candidates(bank)
    return sorted(np.asarray(candidates.key_C)[np.asarray(candidates.embedding_CxD)[:, 0] != 0].tolist())


def test_the_oldest_rows_leave_first():
    bank = make_bank(size=12, lanes=4, dim=2, num_groups=1)
    seen = []
    for t in range(5):
        bank = step(bank, batch_of(1 + 10 * t))
        seen = (seen + list(range(1 + 10 * t, 5 + 10 * t)))[-12:]
        assert stored(bank) == sorted(seen)
        assert float(filled(bank)) == pytest.approx(min(1, (t + 1) / 3))


def test_a_row_keeps_its_ids_and_validity():
    bank = step(step(make_bank(size=12, lanes=4, dim=2, num_groups=1), batch_of(1)), batch_of(11))
    candidates = jax.device_get(as_candidates(bank))
    rows = candidates.embedding_CxD[:, 0] > 0
    assert rows.sum() == 8
    assert (candidates.embedding_CxD[rows, 0] == candidates.key_C[rows]).all()
    assert (candidates.group_CxG[rows, 0] == candidates.key_C[rows] + 100).all()
    assert (candidates.valid_C[rows] == (candidates.key_C[rows] % 3 != 0)).all()
    assert not candidates.valid_C[~rows].any()


def test_larger_batches_of_a_later_stage_push_out_as_many_rows_and_wrap_around():
    bank = make_bank(size=12, lanes=4, dim=2, num_groups=1)
    for first, rows in [(1, 4), (11, 8), (31, 8)]:
        bank = step(bank, batch_of(first, rows))
    kept = set(stored(bank))
    assert set(range(31, 39)) <= kept
    assert len(kept) == 12
    assert len(kept & set(range(11, 19))) == 4  # one of each lane, the one that came last
    assert not kept & set(range(1, 5))


def test_it_serves_only_when_ready():
    bank = make_bank(size=12, lanes=4, dim=2, num_groups=1)
    serve = jax.jit(lambda bank, t: as_candidates(bank, ready=t >= 3).valid_C.any())
    served = []
    for t in range(5):
        served.append(bool(serve(bank, t)))
        bank = step(bank, batch_of(1 + 10 * t))
    assert served == [False, False, False, True, True]


@pytest.mark.parametrize("num_devices", [1, 8])
def test_every_device_pushes_its_own_rows_where_they_lie(num_devices):
    sharding = NamedSharding(mesh := mesh_of(num_devices), PartitionSpec(mesh.axis_names))
    place = lambda tree: jax.tree.map(lambda x: jax.device_put(x, sharding) if x.ndim else x, tree)
    bank, batch = place(make_bank(size=48, lanes=8, dim=2, num_groups=1)), place(batch_of(1, 16))
    program = step.lower(bank, batch).compile()
    text = program.as_text()
    assert not [name for name in ("all-gather", "all-reduce", "all-to-all", "collective-permute") if name in text]
    bank = program(bank, batch)
    assert bank.embedding_PxTxD.sharding.is_equivalent_to(sharding, 3)
    alone = step(make_bank(size=48, lanes=8, dim=2, num_groups=1), batch_of(1, 16))
    for one, other in zip(jax.tree.leaves(bank), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("num_devices", "impl"), [(1, "gather"), (2, "ring"), (4, "gather"), (8, "ring")])
def test_queries_against_products_of_all_devices_and_a_bank_equal_the_reference(num_devices, impl):
    rng = np.random.default_rng(3)
    rows = lambda keys: Candidates(
        unit_rows(rng, 16), np.asarray(keys, np.int32), rng.random(16) > 0.2, (np.asarray(keys)[:, None] // 2 + 70)
    )
    bank = make_bank(size=64, lanes=16, dim=8, num_groups=1)
    for start in (0, 12, 30):
        bank = step(bank, jax.tree.map(jnp.asarray, rows(np.arange(start, start + 16))))
    query, products, more = unit_rows(rng, 16), rows(rng.integers(0, 40, 16)), (jax.device_get(as_candidates(bank)),)

    def loss(query, product, bank, scale):
        return candidate_loss(
            query,
            Candidates(product, products.key_C, products.valid_C, products.group_CxG),
            scale,
            rule=Rule(label_mode="mask", margin=0.1),
            more=(as_candidates(bank),),
            impl=impl,
            chunk_rows=1,
            mesh=mesh_of(num_devices),
        )

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True, allow_int=True))
    (value, metrics), grads = jax.device_get(run(query, products.embedding_CxD, bank, jnp.float32(2)))
    rule = Rule(label_mode="mask", margin=0.1)
    wanted, (of_query, of_sets, of_scale, _) = reference_value_and_grad(rule, query, products, 2.0, more=more)
    assert value == pytest.approx(wanted, abs=3e-6)
    np.testing.assert_allclose(grads[0], of_query, atol=2e-6)
    np.testing.assert_allclose(grads[1], of_sets[0], atol=2e-6)
    assert (grads[2].embedding_PxTxD == 0).all()
    assert grads[3] == pytest.approx(of_scale, abs=3e-6)
    assert metrics["negatives_per_row"] > 16  # more than the batch has
    assert 1 <= metrics["effective_negatives"] <= metrics["negatives_per_row"]


def test_a_checkpoint_brings_it_back_bit_by_bit(tmp_path):
    mesh = mesh_of(4)
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    everywhere = NamedSharding(mesh, PartitionSpec())
    bank = make_bank(size=24, lanes=8, dim=2, num_groups=1)
    bank = jax.tree.map(lambda x: jax.device_put(x, sharding if x.ndim else everywhere), bank)
    bank = step(bank, batch_of(1, 8))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, {"extra": {"bank": bank}}, meta={})
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), bank)
    restored, _ = checkpoints.restore_latest({"extra": {"bank": abstract}})
    checkpoints.close()
    back = restored["extra"]["bank"]
    assert type(back) is type(bank)
    for one, other in zip(jax.tree.leaves(bank), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(one, other)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="bank.size is 10; expected a multiple of the smallest batch, 4"):
        make_bank(size=10, lanes=4, dim=2)
    bank = make_bank(size=12, lanes=4, dim=2)
    with pytest.raises(ValueError, match="batch_size is 6; expected a multiple of the bank's 4 lanes"):
        push(bank, batch_of(1, 6))
    with pytest.raises(ValueError, match="group_CxG is in only one"):
        push(bank, batch_of(1))


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_drift_is_the_cosine_of_what_the_bank_has_of_the_products_of_the_batch(num_devices):
    rng, mesh = np.random.default_rng(0), mesh_of(num_devices)
    rows = lambda keys, valid: Candidates(unit_rows(rng, len(keys)), jnp.array(keys), jnp.array(valid))
    dim = unit_rows(rng, 1).shape[1]
    first, second = rows([1, 2, 3, 4], [True] * 4), rows([5, 6, 7, 8], [True, False, True, True])
    bank = step(step(make_bank(size=12, lanes=4, dim=dim), first), second)
    batch = rows([3, 9, 8, 6], [True, True, False, True])  # 3 is there; 8 is no valid row now, 6 was none then
    found = jax.device_get(jax.jit(lambda bank, batch: drift(bank, batch, mesh=mesh))(bank, batch))
    expected = float(first.embedding_CxD[2] @ batch.embedding_CxD[0])
    assert found["bank_repeats"] == 1 and found["bank_cosine"] == pytest.approx(expected, abs=1e-6)
    twice = rows([3, 3, 3, 9], [False, True, True, True])  # several queries of one product, one of them empty
    found = jax.device_get(jax.jit(lambda bank: drift(bank, twice, mesh=mesh))(bank))
    expected = float(first.embedding_CxD[2] @ twice.embedding_CxD[1])
    assert found["bank_repeats"] == 1 and found["bank_cosine"] == pytest.approx(expected, abs=1e-6)
    none = jax.device_get(jax.jit(lambda bank: drift(bank, rows([90, 91, 92, 93], [True] * 4), mesh=mesh))(bank))
    assert none == {"bank_cosine": 0.0, "bank_repeats": 0.0}
