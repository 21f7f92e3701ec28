"""The public API: `vl.load` and its vectors."""

import io

import numpy as np
import pytest
from PIL import Image

import ecommerce_vl as vl
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.errors import UserError
from ecommerce_vl.inputs import check_list, inputs_of
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.loop import FINISHED, train


@pytest.fixture(scope="module")
def workdir(tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "run"
    assert train(tiny_config, folder, build_system=build_system, log=lambda line: None) == FINISHED
    return folder


@pytest.fixture(scope="module")
def encoder(workdir):
    return vl.load(workdir)


@pytest.fixture(scope="module")
def records(sample_data):
    rows = PreparedData(sample_data).records("train")
    return [rows[row] for row in range(len(rows))]


def test_vectors_are_unit_or_absent(encoder, records):
    views = encoder.embed_views(records)
    has_image = np.array([bool(record["images"]) for record in records])
    has_text = np.array([bool(record["title"]) for record in records])
    for view, present in (("image", has_image), ("text", has_text), ("product", has_image | has_text)):
        assert views[view].shape == (len(records), encoder.dim)
        assert views[view].dtype == np.float32
        np.testing.assert_array_equal(np.isfinite(views[view]).all(axis=1), present)
        np.testing.assert_allclose((views[view][present] ** 2).sum(1), 1, atol=1e-5)
    assert not has_image.all() and not has_text.all()


def test_a_row_does_not_depend_on_its_neighbours(encoder, records):
    whole = encoder.embed_views(records)
    alone = encoder.embed_views(records[3:4])
    for view in whole:
        np.testing.assert_allclose(alone[view][0], whole[view][3], atol=1e-5)


def test_the_same_picture_in_every_form(encoder, records, tmp_path):
    data = next(record["images"][0] for record in records if record["images"])
    file = tmp_path / "picture.jpg"
    file.write_bytes(data)
    vectors = encoder.embed_images([data, str(file), file, Image.open(io.BytesIO(data))])
    for vector in vectors[1:3]:
        np.testing.assert_array_equal(vector, vectors[0])
    # Pixels that were decoded elsewhere missed the reduction in the DCT domain; they are near, not equal.
    assert vectors[3] @ vectors[0] > 0.999


@pytest.mark.parametrize("name", ["image", "images", "image_link"])
def test_products_as_a_user_writes_them(encoder, records, name):
    record = next(record for record in records if record["images"] and record["title"])
    picture = record["images"] if name == "images" else record["images"][0]
    vector = encoder.embed_products([{"title": record["title"], name: picture}])
    np.testing.assert_allclose(vector[0], encoder.embed_views([record])["product"][0], atol=1e-5)


def test_words_and_queries_share_the_space(encoder):
    np.testing.assert_array_equal(encoder.embed_queries(["red dress"]), encoder.embed_texts(["red dress"]))
    assert np.isnan(encoder.embed_texts([""])).all()
    assert encoder.embed_texts([]).shape == (0, encoder.dim)


def test_a_picture_with_words_is_their_weighted_sum(encoder, records):
    pictures = [record["images"][0] for record in records if record["images"]][:3]
    words = ["white", "in leather", ""]
    image, text = encoder.embed_images(pictures), np.nan_to_num(encoder.embed_texts(words))
    for weight, found in ((1.0, encoder.embed_composed(pictures, words)),
                          (0.5, encoder.embed_composed(pictures, words, text_weight=0.5))):  # fmt: skip
        expected = image + weight * text
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(encoder.embed_composed(pictures, words)[2], image[2], atol=1e-5)


def test_an_unreadable_picture_is_named(encoder):
    with pytest.raises(UserError, match="cannot read the picture 5 bytes"):
        encoder.embed_images([b"hello"])


def test_loading_twice_gives_the_same_space(encoder, workdir):
    assert vl.load(workdir).space_id == encoder.space_id


@pytest.mark.parametrize("what", ["nothing", "no checkpoint"])
def test_a_folder_without_a_model_is_named(workdir, tmp_path, what):
    if what == "no checkpoint":
        (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    with pytest.raises(UserError, match="no trained run" if what == "nothing" else "no checkpoint"):
        vl.load(tmp_path)


def test_a_wrong_path_is_not_taken_for_a_product_without_a_picture(encoder):
    with pytest.raises(UserError, match="there is no picture at 'no_such.jpg'"):
        encoder.embed_products([{"title": "red shoe", "image": "no_such.jpg"}])


def test_damaged_bytes_leave_the_title(encoder):
    records = [{"title": "red shoe", "images": [b"not a picture"]}, {"title": "red shoe"}]
    damaged, without = encoder.embed_products(records)
    np.testing.assert_allclose(damaged, without, atol=1e-6)


def test_the_untrained_encoder_is_the_start_of_the_run_and_another_space(encoder, records):
    untrained = encoder.untrained()
    assert untrained.space_id != encoder.space_id and untrained.step == 0
    assert untrained.space_id == encoder.untrained().space_id
    trained = encoder.embed_views(records[:4])["product"]
    assert not np.allclose(untrained.embed_views(records[:4])["product"], trained)
    np.testing.assert_array_equal(encoder.embed_views(records[:4])["product"], trained)


def test_fine_tuning_scores_classes_and_leaves_the_encoder(encoder, records, monkeypatch):
    from ecommerce_vl.training import finetune

    monkeypatch.setattr(finetune, "LEARNING_RATES", (1e-3,))
    monkeypatch.setattr(finetune, "EPOCHS", 1)
    shown = [record for record in records if record["images"]][:8]
    labels, before = np.arange(8) % 2, encoder.embed_views(shown)["image"]
    scores, chosen = encoder.fine_tune(
        "image", train=(shown, labels), validation=(shown, labels), test=shown[:3], num_classes=2, log=lambda line: None
    )
    assert scores.shape == (3, 2) and np.isfinite(scores).all() and chosen["learning_rate"] == 1e-3
    np.testing.assert_array_equal(encoder.embed_views(shown)["image"], before)


def test_one_thing_in_place_of_a_list_is_named():
    for call, found in (
        (lambda: inputs_of({"title": "Red dress"}), "found dict .* expected a list of products, such as"),
        (lambda: inputs_of(["red dress"]), "found list .* expected a list of products, such as"),
        (lambda: check_list("red dress"), "found str 'red dress'; expected a list of texts, such as"),
    ):
        with pytest.raises(TypeError, match=found):
            call()
    assert inputs_of([])["texts"] == [] and check_list([]) is None
