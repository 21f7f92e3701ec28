"""The table in a terminal: aligned, never wider, and titles cannot steer it."""

from ecommerce_vl.exporting.listing import columns, listing
from ecommerce_vl.exporting.reader import Card


def card(title, *, product_id="A1", category="Apparel > Dresses"):
    return Card(product_id, title, "Acme", category, "en", "no", None)


def test_lines_fit_and_columns_align():
    cards = [card("red dress"), card("long " * 40), card("赤いドレス" * 12), card("", product_id="B-0000002")]
    for width in (60, 80, 120):
        lines = listing(cards, scores=[0.91234, 0.5, -0.25, 0.1], width=width).splitlines()
        assert all(columns(line) <= width for line in lines)
        starts = {
            columns(line[: line.index(word)]) for line, word in zip(lines, ("category", *["Dresses"] * 4), strict=True)
        }
        assert len(starts) == 1
        assert "0.9123" in lines[1] and "-0.2500" in lines[3] and "(no title)" in lines[4]
        assert "…" in lines[2] and "…" in lines[3]


def test_control_characters_do_not_reach_the_terminal():
    text = listing([card("red\x1b[2Jdress\nx")], scores=[1.0], width=80)
    assert "\x1b" not in text and len(text.splitlines()) == 2
