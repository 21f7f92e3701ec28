"""Query vectors against values by hand."""

import numpy as np
import pytest
from catalog import jpeg
from fake_encoder import FakeEncoder

from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting.query import query_vector, read_image


def test_words_a_picture_and_both():
    encoder = FakeEncoder()
    assert query_vector(encoder, text="red shoe").tolist() == [1, 0, 0, 0]
    assert query_vector(encoder, image=jpeg("blue"), image_weight=0.1).tolist() == [0, 0, 1, 0]
    both = query_vector(encoder, text="red shoe", image=jpeg("blue"))
    np.testing.assert_allclose(both, np.array([1, 0, 1, 0]) / np.sqrt(2), atol=1e-6)
    # 0.8 of the picture and 0.2 of the words: (0.2, 0, 0.8) / sqrt(0.68)
    leaning = query_vector(encoder, text="red shoe", image=jpeg("blue"), image_weight=0.8)
    np.testing.assert_allclose(leaning, np.array([0.2, 0, 0.8, 0]) / np.sqrt(0.68), atol=1e-6)


def test_a_joint_encoder_reads_both_in_one_pass_and_has_no_weight():
    class Joint(FakeEncoder):
        def embed_composed(self, images, texts, *, text_weight=None):
            if text_weight is not None:
                raise ValueError("both in one pass")
            return np.array([[0, 3, 0, 4]], np.float32)

    found = query_vector(Joint(), text="red shoe", image=jpeg("blue"))
    np.testing.assert_allclose(found, [0, 0.6, 0, 0.8], atol=1e-6)
    with pytest.raises(UserError, match=r"--image_weight=0.3: both in one pass; leave it away"):
        query_vector(Joint(), text="red shoe", image=jpeg("blue"), image_weight=0.3)


def test_nothing_to_search_for():
    with pytest.raises(UserError, match="nothing to search for"):
        query_vector(FakeEncoder(), text="  ")


def test_a_file_that_is_no_picture(tmp_path):
    file = tmp_path / "page.jpg"
    for content in (b"<html>not found</html>", b"", jpeg("red")[:300]):
        file.write_bytes(content)
        with pytest.raises(UserError, match="is not a usable picture"):
            read_image(file)
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "none.jpg")
    file.write_bytes(jpeg("red"))
    assert read_image(file) == jpeg("red")
