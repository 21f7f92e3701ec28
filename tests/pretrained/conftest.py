"""Folders of small models, as transformers would write them."""

import json
import sys
from pathlib import Path

import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

sys.path.insert(0, str(Path(__file__).parent))  # small.py, which published.py reads without the package too
import small

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def golden():
    """family -> its golden file."""
    return lambda family: json.loads((GOLDEN / f"pretrained-{family}.json").read_text())


@pytest.fixture
def write_folder(tmp_path, golden):
    """family, changed weights -> a folder with config.json, model.safetensors, tokenizer.json."""

    def write(family, *, name="", change=lambda tensors: tensors, prefix="", config=None):
        folder = tmp_path / (name or family)
        folder.mkdir()
        tensors = change(small.weights(golden(family)["shapes"]))
        save_file({prefix + key: leaf for key, leaf in tensors.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(small.CONFIGS[family] | (config or {})))
        words = {"[PAD]": 0} | {str(number): number for number in range(1, 60)}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="1"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(folder / "tokenizer.json"))
        return folder

    return write
