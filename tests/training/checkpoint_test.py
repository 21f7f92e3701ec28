"""Checkpoints: bits in = bits out, on any sharding; damage is found, named and passed over."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ecommerce_vl.errors import UserError
from ecommerce_vl.training.checkpoint import Checkpoints, DamagedCheckpoint, array_digest


def mesh_of(num_devices):
    return jax.make_mesh((num_devices,), ("fsdp",), axis_types=(AxisType.Auto,), devices=jax.devices()[:num_devices])


def some_state(num_devices=1):
    rng = np.random.default_rng(0)
    sharded = NamedSharding(mesh_of(num_devices), P("fsdp"))
    whole = NamedSharding(mesh_of(num_devices), P())
    return {
        "params": {
            "kernel": jax.device_put(rng.normal(size=(64, 16)).astype(np.float32), sharded),
            "scale": jax.device_put(np.float32(2.5), whole),
        },
        "opt_state": {"mu": jax.device_put(rng.normal(size=(64, 16)).astype(jnp.bfloat16), sharded)},
        "step": jax.device_put(np.int32(7), whole),
    }


def abstract(state):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


def assert_equal(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


def flip_a_bit(folder, step, *, seed):
    """Flips one bit in the array files of a checkpoint, as a bad disk does."""
    files = sorted(f for f in (folder / str(step) / "state").rglob("*") if f.is_file() and f.parent.name == "d")
    rng = np.random.default_rng(seed)
    file = files[rng.integers(len(files))]
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


@pytest.mark.parametrize("num_devices", [1, 2, 8])
def test_the_digest_does_not_depend_on_the_sharding(num_devices):
    one, other = some_state(1)["params"]["kernel"], some_state(num_devices)["params"]["kernel"]
    np.testing.assert_array_equal(jax.jit(array_digest)(one), jax.jit(array_digest)(other))


def test_the_digest_sees_every_flipped_bit_and_every_swap():
    array = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    digest = lambda x: tuple(np.asarray(jax.jit(array_digest)(jnp.asarray(x))).tolist())
    seen = {digest(array)}
    for bit in range(32):
        flipped = array.view(np.uint32).copy()
        flipped[3, 2] ^= np.uint32(1) << np.uint32(bit)
        seen.add(digest(flipped.view(np.float32)))
    swapped = array.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    seen.add(digest(swapped))
    assert len(seen) == 34


@pytest.mark.parametrize(("saved_on", "restored_on"), [(8, 1), (1, 4), (2, 8)])
def test_a_state_comes_back_on_another_mesh(tmp_path, saved_on, restored_on):
    state = some_state(saved_on)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, state, meta={"tokenizer": "abc"})
    restored, meta = checkpoints.restore_latest(abstract(some_state(restored_on)))
    assert_equal(state, restored)
    assert (meta["tokenizer"], meta["step"]) == ("abc", 7)
    assert restored["params"]["kernel"].sharding.is_equivalent_to(
        some_state(restored_on)["params"]["kernel"].sharding, 2
    )
    assert restored["opt_state"]["mu"].dtype == jnp.bfloat16


def test_parameters_can_be_restored_alone(tmp_path):
    state = some_state()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, state, meta={})
    restored, _ = checkpoints.restore_latest({"params": abstract(state)["params"]}, partial=True)
    assert_equal(restored, {"params": state["params"]})


@pytest.mark.parametrize("seed", range(6))
def test_a_flipped_bit_is_found_and_the_previous_checkpoint_loads(tmp_path, seed):
    lines = []
    checkpoints = Checkpoints(tmp_path, log=lines.append)
    state = some_state()
    checkpoints.save(3, state, meta={})
    checkpoints.save(7, state | {"step": jnp.int32(8)}, meta={})
    flip_a_bit(tmp_path, 7, seed=seed)
    try:
        restored, meta = checkpoints.restore_latest(abstract(state))
    finally:
        checkpoints.close()
    # A flip may hit bytes that carry nothing (padding of the store); then the newest one is sound and is the one.
    if meta["step"] == 7:
        assert int(restored["step"]) == 8
        assert not lines
        assert_equal(restored["params"], state["params"])
    else:
        assert meta["step"] == 3
        assert_equal(restored, state)
        assert "checkpoint 7" in lines[0] and "is damaged" in lines[0]


def test_a_wrong_bit_in_an_array_is_named(tmp_path):
    """Damage that the store cannot see: the arrays of another state under this description."""
    checkpoints = Checkpoints(tmp_path)
    state = some_state()
    checkpoints.save(1, state, meta={})
    other = jax.tree.map(lambda leaf: leaf, state)
    other["params"]["kernel"] = other["params"]["kernel"].at[5, 5].add(1e-3)
    checkpoints.save(2, other, meta={})
    (tmp_path / "1" / "state").rename(tmp_path / "saved")
    (tmp_path / "2" / "state").rename(tmp_path / "1" / "state")
    with pytest.raises(DamagedCheckpoint, match="1 damaged arrays, first params/kernel"):
        checkpoints.restore(1, abstract(state))


@pytest.mark.parametrize("what", ["half a file", "no state", "no description"])
def test_a_half_written_checkpoint_is_passed_over(tmp_path, what):
    lines = []
    checkpoints = Checkpoints(tmp_path, log=lines.append)
    state = some_state()
    for step in (3, 7):
        checkpoints.save(step, state, meta={})
    if what == "half a file":
        for file in (tmp_path / "7" / "state").rglob("d/*"):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        for file in (tmp_path / "7" / ("state" if what == "no state" else "meta")).rglob("*"):
            if file.is_file():
                file.unlink()
    restored, meta = checkpoints.restore_latest(abstract(state))
    assert meta["step"] == 3
    assert_equal(restored, state)
    assert len(lines) == 1


def test_when_all_are_damaged_it_says_so(tmp_path):
    checkpoints = Checkpoints(tmp_path, log=lambda line: None)
    checkpoints.save(3, some_state(), meta={})
    for file in (tmp_path / "3" / "state").rglob("d/*"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="all 1 checkpoints"):
        checkpoints.restore_latest(abstract(some_state()))


def test_other_leaves_are_named(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = some_state()
    checkpoints.save(3, state, meta={})
    wanted = abstract(state)
    wanted["params"]["bias"] = wanted["params"].pop("scale")
    with pytest.raises(UserError, match=r"params/bias.*params/scale"):
        checkpoints.restore_latest(wanted)


def test_other_shapes_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, log=lambda line: None)
    checkpoints.save(3, some_state(), meta={})
    wanted = abstract(some_state())
    wanted["params"]["kernel"] = jax.ShapeDtypeStruct(
        (32, 16), jnp.float32, sharding=wanted["params"]["kernel"].sharding
    )
    with pytest.raises(UserError, match=r"params/kernel.*\(64, 16\).*\(32, 16\)"):
        checkpoints.restore_latest(wanted)


def test_saving_a_step_twice_fails_aloud(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, some_state(), meta={})
    with pytest.raises(Exception, match="3"):
        checkpoints.save(3, some_state(), meta={})


def test_damaged_newer_checkpoints_are_set_aside_so_that_their_steps_can_be_saved_again(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=5, log=lambda line: None)
    for _ in range(2):
        if not checkpoints.steps():
            checkpoints.save(3, some_state(), meta={})
        checkpoints.save(7, some_state(), meta={})
        checkpoints.set_aside_after(3)
        assert checkpoints.steps() == [3]
    checkpoints.save(7, some_state(), meta={})
    assert checkpoints.steps() == [3, 7]
    assert sorted(folder.name for folder in (tmp_path / "damaged").iterdir()) == ["7", "7-2"]
    assert (tmp_path / "damaged" / "7" / "state").is_dir()


@pytest.mark.parametrize(
    ("old", "new"), [(b"abc", b"abd"), (b'"step": 7', b'"step": 8'), (b"{", b""), (b"meta_digest", b"meta_digesu")]
)
def test_a_damaged_description_is_found_and_the_previous_checkpoint_loads(tmp_path, old, new):
    lines = []
    checkpoints = Checkpoints(tmp_path, log=lines.append)
    state = some_state()
    for step in (3, 7):
        checkpoints.save(step, state, meta={"tokenizer": "abc"})
    file = tmp_path / "7" / "meta" / "metadata"
    assert old in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(old, new))
    assert checkpoints.newest_meta()["step"] == 3
    _, meta = checkpoints.restore_latest(abstract(state))
    assert meta["step"] == 3
    assert "checkpoint 7" in lines[0] and "description" in lines[0]


def test_a_sound_description_of_another_step_is_not_taken(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 7):
        checkpoints.save(step, some_state(), meta={})
    (tmp_path / "7" / "meta" / "metadata").write_bytes((tmp_path / "3" / "meta" / "metadata").read_bytes())
    with pytest.raises(DamagedCheckpoint, match="description"):
        checkpoints.meta(7)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), MemoryError),
        (PermissionError(), PermissionError),
        (ValueError("PERMISSION_DENIED: Error opening file"), PermissionError),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), MemoryError),
    ],
)
@pytest.mark.parametrize("part", ["meta", "state"])
def test_what_says_nothing_about_the_checkpoint_does_not_condemn_it(tmp_path, monkeypatch, error, expected, part):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, some_state(), meta={})

    def failing(*unread, args):
        raise error

    monkeypatch.setattr(ocp.JsonCheckpointHandler if part == "meta" else checkpoints._manager, "restore", failing)
    with pytest.raises(expected):
        checkpoints.restore_latest(abstract(some_state()))
