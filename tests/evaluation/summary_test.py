"""The summary has a line for each row that the report shows first."""

from ecommerce_vl.evaluation import suite, tables
from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.evaluation.summary import summary


def test_a_line_a_row_with_its_baselines_and_what_was_skipped(splits):
    results = suite.run(splits["test"], train=splits["train"], validation=splits["validation"])
    results.skip("query", "no queries were given")
    lines = summary(results).splitlines()
    found = tables.tables(results.metrics)
    hiding = [table for table in found if sum(row.is_model for row in table.rows) > len(table.short)]
    assert len(lines) == sum(len(table.short) for table in found) + len(hiding) + len(set(results.skipped.values()))
    entry = results.metrics["same_product/text/hit@1"]
    (line,) = [line for line in lines if line.startswith("same_product · title ")]
    assert " hit@1 " in line and f" {tables.number(entry['value'])} {tables.interval(entry)} " in line
    assert len({line.index("  n ") for line in lines if " [" in line}) == 1, "columns stand below each other"
    assert f"tfidf {tables.number(results.metrics['same_product/text/tfidf/hit@1']['value'])}" in line
    assert "skipped  query: no queries were given" in lines


def test_what_was_skipped_for_one_reason_is_one_line(splits):
    results = Results(products=splits["test"])
    for key in ("adult/image", "query", "adult/text", "composed", "dominance/product"):
        results.skip(key, "the same" if key != "composed" else "another")
    assert summary(results).splitlines() == [
        "skipped  adult/{image,text}, query, dominance/product: the same",
        "skipped  composed: another",
    ]
