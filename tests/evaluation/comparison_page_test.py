"""The page of a comparison says which run is better only where the interval does."""

import json

from ecommerce_vl.evaluation import comparison_page

DIFFERENCES = {
    "category/image/linear/top1": {"difference": 0.12, "low": 0.05, "high": 0.2, "n": 210},
    "category/text/knn/top1": {"difference": -0.02, "low": -0.1, "high": 0.06, "n": 209},
    "category/image/random/knn/top1": {"difference": 0.0, "low": 0.0, "high": 0.0, "n": 210},
    "image_text/i2t/hit@10": {"difference": -0.2, "low": -0.3, "high": -0.1, "n": 208},
}


def write(folder, value):
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({key: {"value": value} for key in DIFFERENCES}))
    return folder


def test_sides_follow_from_intervals(tmp_path):
    a, b = write(tmp_path / "A<b>", 0.4), write(tmp_path / "B", 0.6)
    sides = {(row["task"], row["label"]): row["side"] for row in comparison_page.rows(a, b, DIFFERENCES)}
    assert sides[("category", "picture · linear probe")] == "b"
    assert sides[("category", "title · nearest neighbours")] == ""
    assert sides[("image_text", "picture → title")] == "a"
    comparison_page.write(tmp_path / "page.html", a, b, DIFFERENCES)
    page = (tmp_path / "page.html").read_text()
    assert "A&lt;b&gt;" in page and "<script" not in page
    assert "B is higher beyond doubt in 1 numbers, A in 1; 2 intervals hold zero" in page
    assert "+0.120" in page and "[.05, .20]" in page and ".400" in page and ".600" in page


def test_the_summary_names_what_differs_and_counts_the_rest(tmp_path):
    a, b = write(tmp_path / "A", 0.4), write(tmp_path / "B", 0.6)
    text = comparison_page.summary(a, b, DIFFERENCES)
    assert len(text.splitlines()) == 3 and "random" not in text
    assert "compared 3 numbers" in text and "1 have an interval with zero in it" in text
