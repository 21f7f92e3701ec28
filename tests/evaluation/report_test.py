"""The page is parsed as a browser would: nothing runs, nothing is fetched, adult pictures are blurred."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ecommerce_vl.evaluation import figures, pictures, report, slices, suite, tables

HOSTILE = '<script>alert("red cup")</script>'


class Page(HTMLParser):
    """Collects what a browser would: tags, the attributes of images, and text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.images, self.words, self.links = [], [], [], []
        self._blurred = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag == "span":
            self._blurred = "adult" in attributes.get("class", "").split()
        if tag == "img":
            self.images.append(attributes | {"blurred": self._blurred})

    def handle_endtag(self, tag):
        self._blurred = self._blurred and tag != "span"

    def handle_data(self, data):
        self.words.append(data)


def show_everything(results):
    """Figures of every kind, and per-query values, as task families leave them."""
    random, rows = np.random.default_rng(0), np.arange(60)
    shapes = np.array([path.split(" > ")[1] for path in results.products.category_paths])
    classes = ("Home > ball", "Home > box", "Home > cup")
    true = np.array([classes.index(f"Home > {shape}") for shape in shapes])
    predicted = np.where(rows % 4 == 0, (true + 1) % 3, true)
    results.figures["category/product/linear"] = figures.Confusion(classes, true, predicted, rows)
    right = random.random(200) < 0.3
    pairs = random.integers(0, 60, (200, 2))
    scores = right + random.normal(size=200)
    results.figures["matching/text"] = figures.PrecisionRecall(right, scores, threshold=0.8, rows=pairs)
    results.figures["clustering/product"] = figures.Clusters(rows // 3, results.products.catalog_keys, rows)
    shots = tuple((shots, 0.3 + 0.1 * at, 0.2 + 0.1 * at, 0.4 + 0.1 * at) for at, shots in enumerate((1, 2, 4, 8)))
    results.figures["category/few_shot"] = figures.Curve("shots", "top 1", {"": shots, "tfidf": shots[:3]}, log_x=True)
    near = (figures.Neighbour(3, 0.5, True), figures.Neighbour(5, 0.4, None), figures.Neighbour(10, 0.3, False))
    results.grids["query/all"] = figures.Grid(
        "Words", "Words ask.", "judged so", "text", "product", (figures.Example(-1, near, True, words="<b>red cup"),)
    )
    results.per_query["category/product/linear"] = {"rows": rows, "top1": (true == predicted).astype(float)}
    slices.add(results)


@pytest.fixture(scope="module")
def written(splits, tmp_path_factory):
    titles = [HOSTILE if i % 3 == 0 else title for i, title in enumerate(splits["test"].titles)]
    test = replace(splits["test"], titles=titles)
    results = suite.run(test, train=splits["train"], validation=splits["validation"])
    results.skipped["same_style/sketch"] = "no product has a sketch & a <b>"
    show_everything(results)
    path = tmp_path_factory.mktemp("report") / "report.html"
    history = [{"step": step, "loss": 1.0 / (step + 1)} for step in range(20)]
    report.write_report(path, results, history=history, info={"checkpoint": "step 20 <tiny>", "data": "drawn"})
    return path.read_text(encoding="utf-8"), results


def test_titles_are_escaped_and_nothing_runs_or_is_fetched(written):
    source, _ = written
    page = Page(source)
    assert "script" not in page.tags
    assert "&lt;script&gt;" in source and "<script" not in source
    assert "link" not in page.tags and all(link.startswith(("data:image/", "#")) for link in page.links)
    assert "http" not in re.sub(r"data:[^\"]+|http-equiv", "", source)
    assert any(HOSTILE in words for words in page.words), "shown as text"
    assert "step 20 <tiny>" in page.words


def test_pictures_are_small_jpegs_with_alternative_text(written):
    source, _ = written
    thumbnails = [image for image in Page(source).images if image["src"].startswith("data:image/jpeg")]
    assert len(thumbnails) > 50
    for image in thumbnails:
        with Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) as picture:
            picture.load()
            assert picture.format == "JPEG" and max(picture.size) == 96
        assert image["alt"]
    assert len(source) < 3_000_000


def test_exactly_the_adult_products_are_blurred(written):
    source, results = written
    adult = {
        title for title, flag in zip(results.products.titles, results.products.adult, strict=True) if flag == "yes"
    }
    blurred = [image for image in Page(source).images if image.get("blurred")]
    assert blurred
    assert all(image["alt"].startswith("Adult product, blurred: ") for image in blurred)
    assert {image["alt"].partition(": ")[2] for image in blurred} <= adult
    assert all(not image["alt"].startswith("Adult") for image in Page(source).images if not image["blurred"])
    assert re.search(r"\.picture\.adult img \{ filter: blur\(\d+px\)", source)


def test_the_numbers_on_the_page_are_the_measured_ones(written):
    source, results = written
    entry = results.metrics["image_text/i2t/hit@10"]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", source))
    assert f"{entry['value']:.3f}".lstrip("0") + f" {tables.interval(entry)}" in text
    assert f"{100 * entry['value']:.0f}" in text
    for words in ("colour histogram", "TF-IDF of titles", "random vectors", "most frequent", "MAP@R"):
        assert words in text
    assert "same_style/sketch – no product has a sketch &amp; a &lt;b&gt;" in text


def test_right_answers_are_green_and_wrong_ones_red(written):
    source, results = written
    near = [one for grid in results.grids.values() for example in grid.examples for one in example.neighbours]
    assert source.count('class="card text right"') + source.count('class="card image right"') + source.count(
        'class="card product right"'
    ) == sum(one.right is True for one in near)
    assert len(re.findall(r'class="card \w+ wrong"', source)) == sum(one.right is False for one in near)
    assert "--right: #1c8a4f" in source and ".card.right { border-color: var(--right); }" in source


def test_numbers_are_written_short():
    written = [tables.number(value) for value in (0.81249, 1.0, 0.0, 0.9999, -0.5, 10.5, None, float("nan"))]
    assert written == [".812", "1.000", ".000", "1.000", "-.500", "10.500", "–", "–"]
    assert tables.interval({"low": 0.794, "high": 1.0}) == "[.79, 1.00]"
    assert tables.interval({"value": 0.5, "low": None, "high": None}) == ""


def test_an_unreadable_picture_shows_a_placeholder():
    assert pictures.thumbnail(None) == pictures.thumbnail(b"<html>") == ""
    wide = io.BytesIO()
    Image.fromarray(np.zeros((10, 400), np.uint8)).save(wide, format="PNG")
    with Image.open(io.BytesIO(base64.b64decode(pictures.thumbnail(wide.getvalue()).partition(",")[2]))) as picture:
        assert picture.size == (96, 2) and picture.mode == "RGB"


def test_a_page_with_nothing_measured_still_says_why(splits, tmp_path):
    test = replace(splits["test"], vectors={}, category_paths=[""] * 60)
    results = suite.run(test, train=test.take([]), validation=test.take([]))
    assert results.metrics == {} and {key.split("/")[0] for key in results.skipped} >= {"image_text", "category"}
    report.write_report(tmp_path / "report.html", results, history=[], info={})
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Not measured" in source and "<table" not in source and "Training" not in source


def test_every_kind_of_figure_is_shown_once_with_its_cases(written):
    source, results = written
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", source))
    for words in ("For whom it works", "Map of the catalog", "Confused categories", "Decisions", "Merged too far"):
        assert f"<h2>{words}</h2>" in source or f"<h3>{words}</h3>" in source, words
    confusion = results.figures["category/product/linear"]
    wrong = {name: int((confusion.true[confusion.true != confusion.predicted] == at).sum()) for at, name in
             enumerate(confusion.classes)}  # fmt: skip
    for number, name in enumerate(confusion.classes):
        support = int((confusion.true == number).sum())
        assert f"{support - wrong[name]} of {support} right" in text
    entry = results.metrics["category/product/linear/top1/slice=modality:title only"]
    (row,) = re.findall("<tr>(?:(?!</tr>).)*title only.*?</tr>", source, flags=re.S)
    assert tables.number(entry["value"]) in row
    assert source.count("<circle class=") == 60 + len(re.findall("<g><title>", source))
    assert "&lt;b&gt;red cup" in source, "a query of words is shown, escaped"
    anchors = set(re.findall(r'href="#([\w-]+)"', source))
    assert anchors and anchors <= set(re.findall(r'id="([\w-]+)"', source))
