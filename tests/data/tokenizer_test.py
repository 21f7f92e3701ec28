"""The same texts give the same tokenizer, and no script is ever unknown."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from ecommerce_vl.data.tokenizer import FILE, TextTokenizer, load_tokenizer, tokenizer_digest, train_tokenizer
from ecommerce_vl.errors import UserError

TEXTS = [
    f"{colour} {kind} Größe {size}" for colour in ("rotes", "blaues") for kind in ("Kleid", "Hemd") for size in "SML"
]
FOREIGN = ["Straßenschuhe für Übergröße", "赤い綿のドレス", "빨간 면 드레스", "красное платье", "👗 naïve"]


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return train_tokenizer(TEXTS, vocab_size=300, max_length=32)


def test_two_processes_train_the_same_file(tmp_path, tokenizer):
    program = (
        "import sys, pathlib; from ecommerce_vl.data.tokenizer import train_tokenizer\n"
        f"train_tokenizer({TEXTS!r}, vocab_size=300, max_length=32).save(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], check=True)
    tokenizer.save(tmp_path / "b")
    assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()
    assert tokenizer_digest(tmp_path / "a") == tokenizer_digest(tmp_path / "b")
    assert [file.name for file in (tmp_path / "b").iterdir()] == [FILE]


def test_any_script_comes_back():
    tokenizer = train_tokenizer(TEXTS, vocab_size=300, max_length=80)
    ids, mask = tokenizer(FOREIGN)
    for text, row, real in zip(FOREIGN, ids, mask, strict=True):
        assert tokenizer._tokenizer.decode(row[real].tolist()).strip() == text.lower()


def test_shapes_masks_and_bounds(tokenizer):
    texts = ["rotes kleid", "", "   ", "kleid " * 500]
    ids, mask = tokenizer(texts)
    assert ids.shape == mask.shape == (4, 32)
    assert (ids.dtype, mask.dtype) == (np.int32, bool)
    assert mask.any(1).tolist() == [True, False, False, True]
    assert mask[3].all()
    assert tokenizer.vocab_size <= 300
    assert 0 <= ids.min() <= ids.max() < tokenizer.vocab_size
    assert [array.shape for array in tokenizer([])] == [(0, 32), (0, 32)]
    # Lengths are those before truncation, and asking for them changes nothing.
    lengths = tokenizer.lengths(texts)
    assert lengths[0] == mask[0].sum()
    assert lengths[3] > 32
    np.testing.assert_array_equal(tokenizer(texts)[0], ids)


def test_saved_loaded_and_pickled_alike(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    for other in (load_tokenizer(tmp_path, max_length=32), pickle.loads(pickle.dumps(tokenizer))):
        np.testing.assert_array_equal(other(FOREIGN)[0], tokenizer(FOREIGN)[0])


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no readable tokenizer at .*tokenizer\.json"):
        load_tokenizer(tmp_path, max_length=8)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(UserError, match="no readable tokenizer"):
        load_tokenizer(tmp_path, max_length=8)
