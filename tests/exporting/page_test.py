"""The page of a search, read as a browser would."""

import re

from catalog import HOSTILE, jpeg

from ecommerce_vl.exporting.page import write_page
from ecommerce_vl.exporting.reader import ExportedVectors


def written(exported, file, **options):
    cards = ExportedVectors(exported).cards(["SKU-03", "SKU-01", "SKU-05"])
    write_page(file, cards, scores=[0.9, 0.5, -0.1], info={"model": "fake <b>"}, **options)
    return file.read_text(encoding="utf-8")


def test_text_is_escaped_and_nothing_runs_or_is_fetched(exported, tmp_path):
    page = written(exported, tmp_path / "new" / "page.html", query=HOSTILE, image=None)
    assert "<script" not in page and page.count("&lt;script&gt;") >= 3 and "fake &lt;b&gt;" in page
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)"', page))


def test_pictures_placeholders_and_blur(exported, tmp_path):
    page = written(exported, tmp_path / "page.html", query="red", image=jpeg("red"))
    first, second, third = page.split('<li class="card"')[1:]
    assert "<img" in first and "no picture" in second and "<img" not in second
    assert 'class="picture adult"' in third and "Adult product, blurred" in third and "adult" not in first
    assert "0.900" in first and "Acme" in first and "Dresses" in first and "width:90.0%" in first
    assert "width:0.0%" in third
    assert "The picture that was searched with" in page
