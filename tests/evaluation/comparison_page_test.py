"""The page of a comparison says which run is better only where the interval does."""

from pathlib import Path

from ecommerce_vl.evaluation import comparison_page

DIFFERENCES = {
    "category/image/linear/top1": {
        "first": 0.4,
        "second": 0.52,
        "difference": 0.12,
        "low": 0.05,
        "high": 0.2,
        "n": 210,
    },
    "category/text/knn/top1": {"first": 0.5, "second": 0.48, "difference": -0.02, "low": -0.1, "high": 0.06, "n": 209},
    "category/image/random/knn/top1": {
        "first": 0.1,
        "second": 0.1,
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
        "n": 210,
    },
    "image_text/i2t/hit@10": {"first": 0.7, "second": 0.5, "difference": -0.2, "low": -0.3, "high": -0.1, "n": 208},
}


def test_sides_follow_from_intervals(tmp_path):
    sides = {(row["task"], row["label"]): row["side"] for row in comparison_page.rows(DIFFERENCES)}
    assert sides[("category", "picture · linear probe")] == "b"
    assert sides[("category", "title · nearest neighbours")] == ""
    assert sides[("image_text", "picture → title")] == "a"
    comparison_page.write(tmp_path / "page.html", Path("A<b>"), Path("B"), DIFFERENCES)
    page = (tmp_path / "page.html").read_text()
    assert "A&lt;b&gt;" in page and "<script" not in page
    assert "B is higher beyond doubt in 1 numbers, A in 1; 2 intervals hold zero" in page
    assert "+0.120" in page and "[.05, .20]" in page and ".400" in page and ".520" in page


def test_the_summary_names_what_differs_and_counts_the_rest():
    text = comparison_page.summary(Path("A"), Path("B"), DIFFERENCES)
    assert len(text.splitlines()) == 3 and "random" not in text
    assert "compared 3 numbers" in text and "1 have an interval with zero in it" in text
