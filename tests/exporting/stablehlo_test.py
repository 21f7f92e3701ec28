"""The model as programs: what JAX alone makes of them, for any number of rows, is what the encoder gives."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import query_finetune
from ecommerce_vl.data.images import ImagePipeline
from ecommerce_vl.data.product_ids import id_row
from ecommerce_vl.data.tokenizer import load_tokenizer, train_tokenizer
from ecommerce_vl.encoder import Encoder, text_of
from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting.stablehlo import write_programs
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.state import init_params

TITLES = ["red cup", "blue cup of tea", "green dress", "", "a long red dress of cotton"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """Query retrieval with ids, which has every input that there is; parameters as drawn, and ids that count."""
    config = query_finetune.get_config("sample")
    config.image.size, config.joint.width, config.joint.depth, config.joint.heads, config.embed_dim = 32, 16, 1, 2, 8
    config.data.id_rows = 64
    config.text.max_length, config.text.query_length = 12, 6
    tokenizer = train_tokenizer(TITLES * 3, vocab_size=300, max_length=12)
    config = config.to_dict()
    system = build_system(config, vocab_size=tokenizer.vocab_size, special_ids=tokenizer.special_ids)
    params = init_params(system, seed=0)
    params["recall"]["table"] = 0.1 * jax.random.normal(jax.random.key(1), params["recall"]["table"].shape)
    return Encoder(
        config,
        system=system,
        params=params,
        pipeline=ImagePipeline.of(config["image"]),
        tokenizer=tokenizer,
        text=text_of("", config),
        digest="of a test",
    )


@pytest.fixture(scope="module")
def model(encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("stablehlo")
    return out, write_programs(encoder, out)


PROGRAM = """
import sys, pathlib, numpy as np, jax, jax.export
folder = pathlib.Path(sys.argv[1])
golden = np.load(folder / "golden.npz")
for view in ("image", "text", "product", "query"):
    program = jax.export.deserialize(bytearray((folder / f"{view}.stablehlo").read_bytes()))
    own = {name.split("/")[1]: golden[name] for name in golden if name.startswith(view + "/")}
    vectors = own.pop("vectors")
    np.testing.assert_allclose(program.call(**own), vectors, atol=1e-5)
    three = program.call(**{name: rows[:3] for name, rows in own.items()})
    np.testing.assert_allclose(three, vectors[:3], atol=1e-5)
    assert abs(np.diff(vectors, axis=0)).max() > 1e-3, "rows differ"
assert not any(name.startswith("ecommerce_vl") for name in sys.modules)
"""


def test_jax_alone_runs_them_for_any_number_of_rows(model):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(model[0])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_they_give_what_the_encoder_gives(model, encoder):
    folder, content = model
    tokenizer = load_tokenizer(folder, max_length=content["text"]["max_length"])
    call = lambda view, **inputs: np.asarray(
        jax.export.deserialize(bytearray((folder / f"{view}.stablehlo").read_bytes())).call(**inputs)
    )
    ids, mask = tokenizer(TITLES)
    shown = np.array([bool(title) for title in TITLES])
    found = call("text", text_ids=ids, text_mask=mask)
    np.testing.assert_allclose(found[shown], encoder.embed_texts(TITLES)[shown], atol=1e-5)
    own = tokenizer.of_length(content["programs"]["query"]["inputs"]["text_ids"]["shape"][1])(TITLES)
    found = call("query", text_ids=own[0], text_mask=own[1])
    np.testing.assert_allclose(found[shown], encoder.embed_queries(TITLES)[shown], atol=1e-5)
    rows = np.array([id_row(f"p{n}", num_rows=64) for n in range(5)], np.int32)
    picture = {"image": np.zeros((5, 32, 32, 3), np.uint8), "has_image": np.zeros(5, bool)}
    found = call("product", **picture, text_ids=ids, text_mask=mask, id_row=rows)
    records = [{"id": f"p{n}", "title": title} for n, title in enumerate(TITLES)]
    expected = encoder.embed_products(records)
    np.testing.assert_allclose(found[shown], expected[shown], atol=1e-5)
    assert np.abs(expected - encoder.embed_texts(TITLES))[shown].max() > 1e-3, "ids count"


def test_the_folder_says_what_it_is(model, encoder):
    folder, content = model
    assert json.loads((folder / "model.json").read_text()) == content
    assert (content["space_id"], content["dims"]) == (encoder.space_id, 8)
    assert content["programs"]["text"]["inputs"]["text_mask"] == {"shape": ["B", 12], "dtype": "bool"}
    assert content["written"] < content["readable_until"]
    with pytest.raises(UserError, match="holds a model already; name another folder or add --overwrite"):
        write_programs(encoder, folder)
