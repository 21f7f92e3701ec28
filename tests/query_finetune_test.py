"""Fine-tuning on the sample's log: it begins from a run, embeds ids, and exports carry on."""

from functools import partial

import numpy as np
import pytest

import ecommerce_vl as vl
from configs import query_finetune, query_retrieval
from ecommerce_vl import weights
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.query_pairs import asked_in
from ecommerce_vl.errors import UserError
from ecommerce_vl.evaluation.quick import measure
from ecommerce_vl.exporting.vectors import export_vectors
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.initial import kept
from ecommerce_vl.training.loop import FINISHED, train
from ecommerce_vl.training.writer import read_metrics


def config_of(variant, data, **changes):
    config = variant.get_config("sample")
    config.batch_size, config.total_samples, config.bank.size = 16, 48, 32
    config.image.size, config.text.vocab_size, config.evaluate.every_steps = 32, 400, 0
    config.joint.width, config.joint.depth, config.embed_dim = 16, 2, 8
    config.optimizer.warmup_samples = 16
    config.data.path = str(data)
    for name in ("mlm", "mpm", "qpm", "qim"):
        config.weights[name] = 0.0
    config.data.queries = "derived"
    config.update_from_flattened_dict(changes)
    return config.to_dict()


@pytest.fixture(scope="module")
def pretrained(sample_data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    config = config_of(query_retrieval, sample_data)
    assert train(config, workdir, build_system=build_system, log=lambda line: None) == FINISHED
    return workdir


@pytest.mark.slow
def test_a_run_is_fine_tuned_with_ids_and_exported(sample_data, pretrained, tmp_path):
    workdir = tmp_path / "tuned"
    changes = {"init.run": str(pretrained), "embed_dim": 64, "joint.width": 96}  # the run's sizes win
    config = weights.resolve(config_of(query_finetune, sample_data, **changes), workdir)
    assert (config["embed_dim"], config["joint"]["width"]) == (8, 16)
    config["evaluate"] |= {"every_steps": 100, "products": 30}
    initial, lines, seen = partial(weights.initial, config), [], []

    def noted(vectors, keys, answers):
        seen.append((vectors, answers))
        return measure(vectors, keys, answers)

    rooms = {"build_system": build_system, "initial": initial, "measure": noted, "log": lines.append}
    assert train(config, workdir, **rooms) == FINISHED
    assert any("at random begin" in line and "recall/table" in line for line in lines)

    encoder, before = vl.load(workdir, log=lines.append), vl.load(pretrained)
    assert encoder.space_id != before.space_id and encoder.text == before.text
    given, blocks = kept(workdir), encoder.params["joint"]["transformer"]["blocks"]["attn"]["query"]["kernel"]
    moved = np.abs(blocks - given["joint/transformer/blocks/attn/query/kernel"]).max(axis=(1, 2))
    assert moved[0] == 0 < moved[1], "the lower half stays"
    np.testing.assert_array_equal(encoder.params["joint"]["token"], given["joint/token"])
    assert any("eval/query/product/hit@10" in row for row in read_metrics(workdir))
    asked = asked_in(PreparedData(sample_data), "derived", split="validation")
    held_out = PreparedData(sample_data).records("validation")
    expected = {
        "query": encoder.embed_queries(sorted({query for query, _ in asked})),
        "product": encoder.embed_products([held_out[row] for row in range(len(held_out))]),  # with their ids
    }
    vectors, answers = seen[-1]
    assert len(answers) == len(vectors["query"]) == 30 and all(answers) and len(vectors["product"]) > 10
    for view, found in vectors.items():
        if view in expected:
            gap = np.abs(found[:, None] - expected[view][None]).max(axis=2).min(axis=1)
            assert (gap < 2e-5).all(), view

    rows = PreparedData(sample_data).records("train")
    records = [rows[row] for row in range(40)]
    own = encoder.embed_products(records)
    content = encoder.embed_products([record | {"id": f"new {record['id']}"} for record in records])
    nobody = encoder.embed_products([{"title": one["title"], "images": one["images"]} for one in records])
    np.testing.assert_allclose(content, nobody, atol=1e-6)
    differs = np.abs(own - nobody).max(axis=1) > 1e-6
    assert 0 < differs.sum() < len(records), "of products that were drawn, and of no others"

    export = partial(export_vectors, data=PreparedData(sample_data), progress=lambda done, total: None)
    manifest = export(encoder, split="all", out=tmp_path / "vectors", log=lines.append)
    assert manifest["space_id"] == encoder.space_id
    assert weights.resolve(config_of(query_finetune, sample_data, **changes), workdir)["embed_dim"] == 8


def test_what_cannot_be_fine_tuned_is_named(sample_data, tmp_path):
    resolve = lambda run: weights.resolve(config_of(query_finetune, sample_data, **{"init.run": run}), tmp_path / "new")
    with pytest.raises(UserError, match=r"config.init.run is ''; expected the run directory to fine-tune"):
        resolve("")
    with pytest.raises(UserError, match="no trained run at"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text('{"system": "eclip"}')
    with pytest.raises(UserError, match="a run of eclip; expected one of query_retrieval"):
        resolve(str(tmp_path))
