"""The data report: its figures against counts by hand, what it must never show, and what must be harmless in it."""

import html
import io
import itertools
import json
import re
from html.parser import HTMLParser

import duckdb
import numpy as np
import pytest
from PIL import Image

from configs import prepare as prepare_config
from ecommerce_vl.data.preparation import prepare_feed
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.report import cards, tables
from ecommerce_vl.data.report.collisions import expected_collisions, expected_partners
from ecommerce_vl.data.report.page import write_report
from ecommerce_vl.data.report.tree import MAX_CHILDREN, MAX_DEPTH, category_tree
from ecommerce_vl.data.report.verdicts import GOOD, NOTE, WARNING, verdicts
from ecommerce_vl.data.report.words import number, percent
from ecommerce_vl.errors import UserError

SCRIPT = "<script>alert('{}')</script>"
EVENT = '"><img src=x onerror=alert(1)>'
OPEN = "<img src=x onerror=alert(1) "  # a category may hold no ">", which parts its levels


def picture(seed: int) -> bytes:
    """A picture like no other: coarse noise, which every hash tells apart."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).resize((120, 150), Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


@pytest.fixture(scope="module")
def hostile_data(tmp_path_factory):
    """A prepared feed that has a case of every section, with markup wherever a feed may hold text."""
    folder = tmp_path_factory.mktemp("hostile")
    for seed in range(40):
        (folder / f"{seed}.jpg").write_bytes(picture(seed))
    (folder / "bad.jpg").write_bytes(b"<script>alert('bytes')</script>" * 5)
    lines = []

    def product(number, **fields):
        defaults = {
            "id": f"p{number}",
            "title": f"{SCRIPT.format(number)} shirt number {number}",
            "image_link": f"{number}.jpg",
            "product_type": ["Tops <b", OPEN],
            "seller_id": "<i>s1",
            "locale": "en<u>",
            "split": "train",
        }
        lines.append(json.dumps(defaults | fields))

    for row in range(12):
        product(row)
    product(12, id=f"q{EVENT}", adult="yes", title="a red wine of the very best")
    # The same pictures and titles again: copies of the same seller, one product of two sellers, a torn pair.
    product(1, id="<s>copy")
    product(2, id="<s>other seller", seller_id="<i>s2")
    product(12, id="<s>adult copy", adult="yes", title="a red wine of the very best")
    product(3, id="torn", seller_id="<i>s3", split="test")
    product(13, id="wine two", adult="yes", title="another red wine of the very best", split="validation")
    product(14, id="contradiction 1", gtin="4006381333931", brand="x")
    product(15, id="contradiction 2", gtin="4006381333931", brand="y", product_type=["Other", OPEN])
    for row in range(4):
        product(20, id=f"banner {row}", title=f"{SCRIPT.format('banner')} item {row}")
    product(0, id="p0")
    product(30, id="bad picture <script>", image_link="bad.jpg")
    product(31, id="nothing <script>", image_link="<script>.jpg", title="")
    lines.append('{"id": "<script>alert(2)</script>", broken')
    feed = folder / "feed.jsonl"
    feed.write_text("\n".join(lines) + "\n")
    config = prepare_config.get_config()
    config.text.html = False
    config.images.placeholder_share, config.images.placeholder_min_titles = 0.1, 4
    config.num_workers = 1
    out = folder / "data"
    prepare_feed(str(feed), out, config=config.to_dict(), progress=lambda label: lambda done, total: None)
    return out


class Page(HTMLParser):
    """Elements, attributes and text of a page, and the pictures that stand in a label of class adult."""

    VOID = ("meta", "img", "input", "br", "link")

    def __init__(self, page: str):
        super().__init__()
        self.names, self.attributes, self.text, self.open = set(), [], [], []
        self.blurred, self.plain = [], []
        self.feed(page)
        self.words = " ".join(self.text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names.add(tag)
        self.attributes += attributes.items()
        if tag == "img":
            blurred = any(name == "label" and "adult" in kind.split() for name, kind in self.open)
            (self.blurred if blurred else self.plain).append(attributes["src"])
        if tag not in self.VOID:
            self.open.append((tag, attributes.get("class") or ""))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(hostile_data):
    return Page(write_report(hostile_data).read_text())


def test_the_fixture_has_a_case_of_everything(hostile_data):
    summary = PreparedData(hostile_data).summary
    expected = {"duplicate_id", "exact_duplicate", "invalid_json", "missing_image_file"}
    assert set(summary["rejects"]) == expected
    assert summary["placeholders"] == 1 and summary["split"]["leaking"] > 1
    with tables.open_tables(hostile_data) as connection:
        counts = {
            view: connection.execute(f"SELECT count(*) FROM {view}").fetchone()[0] for view in tables.VIEWS.values()
        }
    assert all(counts.values()), counts


def test_markup_of_the_feed_is_shown_and_harmless(page):
    assert "script" not in page.names and not {"u", "s"} & page.names
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    shown = page.words
    for text in ("<script>alert('1')</script>", EVENT, "Tops <b", OPEN, "en<u>", "<i>s2", "<s>copy", "<s>adult copy"):
        assert text in shown, text
    assert "alert(2)" in shown and "bad picture <script>" in shown and "nothing <script>" in shown
    assert not page.open  # every element is closed where it should be


def test_nothing_is_fetched(page):
    sources = [value for name, value in page.attributes if name in ("src", "href", "action", "data", "srcset")]
    assert sources and all(source.startswith(("data:image/jpeg;base64,", "#")) for source in sources)
    assert ("http-equiv", "Content-Security-Policy") in page.attributes


def test_adult_pictures_are_blurred_wherever_they_stand(hostile_data, page):
    data = PreparedData(hostile_data)
    adult = set()
    for split in ("train", "validation"):
        for record in data.records(split):
            if record["adult"] == "yes":
                adult |= {cards.small(record["images"][0]), cards._square(record)}
    assert len(adult) == 4
    assert not adult & set(page.plain)
    # A pair of copies shows the kept one and the dropped one; the grid of train shows the square.
    assert sum(source in adult for source in page.blurred) >= 3
    assert len(page.plain) > 20


def test_refused_pictures_of_unknown_kind_are_blurred():
    case = {"row": 7, "id": "x", "detail": "d", "title": None, "picture": picture(0)}
    assert cards.case_card(case | {"adult": None}, {}, refused=True).blurred
    assert cards.case_card(case | {"adult": "yes"}, {}, refused=True).blurred
    assert not cards.case_card(case | {"adult": "unknown"}, {}, refused=True).blurred
    kept = cards.Card("x", "kept", "", blurred=True)
    assert cards.case_card(case | {"adult": None}, {"x": kept}, refused=False).blurred


def test_pairs_stand_side_by_side(hostile_data):
    with tables.open_tables(hostile_data) as connection:
        pairs = tables.seller_pairs(connection, most=9, seed=0)
        copies = tables.copy_pairs(connection, most=9, seed=0)
        counts, leaks = tables.leak_cases(connection, most=9, seed=0)
        number_of_conflicts, (conflict,) = tables.conflict_cases(connection, most=9)
    across = {(pair["id_a"], pair["id_b"]) for pair in pairs if pair["across"]}
    assert across == {("p2", "<s>other seller"), ("p3", "torn")}
    assert {(pair["id_a"], pair["id_b"]) for pair in copies} == {("p1", "<s>copy"), (f"q{EVENT}", "<s>adult copy")}
    assert all(pair["picture"] and pair["title"] for pair in copies)
    assert {(pair["id_a"], pair["id_b"]) for pair in leaks} == {("p3", "torn")}
    assert sum(row["pairs"] for row in counts) == len(leaks) and counts[0]["sides"] == "test and train"
    assert number_of_conflicts == 1 and conflict["ids"] == ["contradiction 1", "contradiction 2"]


@pytest.mark.parametrize("name", ["sample_data", "hostile_data"])
def test_stages_add_up(name, request):
    data = request.getfixturevalue(name)
    summary = PreparedData(data).summary
    with tables.open_tables(data) as connection:
        first, *stages = tables.stages(connection, summary)
    assert first == {"name": "rows in the feed", "lost": {}, "left": summary["rows_in"]}
    for stage in stages:
        assert stage["left"] == first["left"] - sum(stage["lost"].values())
        first = stage
    assert first["left"] == summary["rows_out"]
    lost = {reason: rows for stage in stages for reason, rows in stage["lost"].items()}
    assert lost == summary["rejects"]
    assert list(stages[0]["lost"]) and all(reason.startswith("invalid") for reason in stages[0]["lost"])
    assert list(stages[1]["lost"]) == ["duplicate_id"]


def test_figures_of_the_sample(sample_data):
    summary = PreparedData(sample_data).summary
    with tables.open_tables(sample_data) as connection:
        population = tables.population(connection)
        lengths = tables.title_lengths(connection)
        pictures = tables.picture_counts(connection)
        categories = tables.category_counts(connection)
        titles, locales = tables.title_sample(connection, most=10**6, seed=0)
    assert {row["split"]: row["products"] for row in population} == summary["splits"]
    assert sum(row["with_image"] for row in population) == summary["with_image"]
    words = sorted(len(title.strip().split(" ")) for title in titles)
    assert sum(n for _, n in lengths["words"]) == len(titles) == len(locales) == summary["with_title"]
    assert lengths["word_quantiles"][1] == words[-(-len(words) // 2) - 1]
    assert sum(bar * n for bar, n in lengths["words"]) == sum(min(n, tables.WORDS_SHOWN) for n in words)
    assert sum(n * products for n, products in pictures) == summary["images"]
    assert categories["leaves"] == summary["categories"] and categories["rest"]["categories"] == 0
    tree = category_tree(categories["paths"])
    assert tree.products == categories["products"] == sum(child.products for child in tree.children)


def test_a_sample_of_titles_is_a_draw(sample_data):
    with tables.open_tables(sample_data) as connection:
        one, other = (tables.title_sample(connection, most=60, seed=seed)[0] for seed in (0, 1))
    assert 20 < len(one) < 150 and one != other


def test_expected_partners_against_all_batches():
    keys = ["a", "a", "a", "b", "b", "c", "d"]
    batch = 4
    met = [
        sum(keys[i] == keys[j] for i, j in itertools.permutations(rows, 2)) / batch
        for rows in itertools.combinations(range(len(keys)), batch)
    ]
    pairs = 3 * 2 + 2 * 1
    assert expected_partners(pairs, num_rows=len(keys), batch=batch) == pytest.approx(np.mean(met))
    assert expected_partners(pairs, num_rows=len(keys), batch=len(keys) + 1) is None
    assert expected_partners(0, num_rows=1, batch=1) is None


def test_false_negatives_are_those_that_the_loss_does_not_know():
    with duckdb.connect() as connection:
        connection.execute("""
            CREATE TABLE products AS
            SELECT 'train' AS split, row // 4 AS catalog_key, -1 - row AS group_key, true AS has_text,
                row // 8 AS title_hash, '' AS image_hash
            FROM range(2048) rows(row) UNION ALL SELECT 'test', 0, 0, true, 0, 'x' FROM range(100)
        """)
        product, group, title, image = expected_collisions(connection)
    share = 1023 / 2047
    assert product["expected"] == [pytest.approx(3 * share), None, None]
    assert group["expected"][0] == image["expected"][0] == 0
    assert title["expected"][0] == pytest.approx((7 - 3) * share)  # three of the seven others are known to the loss


def test_tree_of_odd_paths():
    paths = [{"path": " > ".join("abcdefghijkl"), "products": 2, "with_image": 1, "train": 2}]
    paths += [{"path": f"x > {n:03}", "products": 1, "with_image": 1, "train": 0} for n in range(MAX_CHILDREN + 5)]
    root = category_tree(paths)
    assert [child.name for child in root.children] == ["x", "a"] and root.products == MAX_CHILDREN + 7
    assert root.children[0].hidden == root.children[0].hidden_products == 5
    node, depth = root, 0
    while node.children:
        node, depth = node.children[-1], depth + 1
    assert depth == MAX_DEPTH and node.name == "g > h > i > j > k > l" and (node.products, node.with_image) == (2, 1)


SUMMARY = {
    "rows_in": 20_000, "rows_out": 20_000, "rejects": {}, "repairs": {}, "placeholders": 0, "ignored_keys": {},
    "with_image": 20_000, "with_title": 20_000, "splits": {"train": 18_000, "validation": 1000, "test": 1000},
    "split": {"given": 0, "leaking": 0, "cut_edges": 0, "largest_component": 9}, "catalogs": {"conflicts": 0},
}  # fmt: skip
FIGURES = {
    "stages": [{"lost": {}, "left": 20_000}] * 5,
    "population": [{"known_rows": 9, "pairs": 18_000}],
    "categories": {"products": 20_000, "paths": [], "rare": 0, "leaves": 9},
    "tokens": [{"language": "all", "titles": 20_000, "truncated_share": 0.0}],
    "max_tokens": 64,
    "conflicts": 0,
    "collisions": [],
}


def test_a_clean_catalog_gets_no_warning():
    assert {verdict.level for verdict in verdicts(SUMMARY, FIGURES)} == {GOOD}


@pytest.mark.parametrize(
    "summary, figures, sentence",
    [
        ({"rows_out": 19_999}, {}, "do not add up: 20,000 should be left, 19,999 are"),
        ({"with_image": 18_000}, {}, "10 % of the products have no picture"),
        ({"split": SUMMARY["split"] | {"leaking": 10}}, {}, "below 0.1 % of the products (10) are in a group"),
        ({"splits": {"train": 1, "validation": 0, "test": 0}}, {}, "no products in validation and test"),
        ({"ignored_keys": {"gtin": 900}}, {}, "900 products with a gtin that is on too many rows"),
        ({}, {"conflicts": 3}, "3 gtins in several categories"),
        (
            {},
            {"tokens": [FIGURES["tokens"][0] | {"truncated_share": 0.065}]},
            "6.5 % of the titles are cut at 64 tokens",
        ),
        (
            {},
            {"collisions": [{"name": "of an equal title", "to_loss": "false negatives", "expected": [0.01, 0.4, 3.0]}]},
            "At a batch of 4,096 a product meets on average 0.4 others of an equal title",
        ),
        (
            {"rejects": {"invalid_json": 500}, "rows_out": 19_500},
            {"stages": [{"lost": {"invalid_json": 500}, "left": 19_500}] + [{"lost": {}, "left": 19_500}] * 4},
            "2.5 % of the rows (500) were refused, most of them as invalid_json",
        ),
    ],
)
def test_warnings_come_first_and_say_what_to_do(summary, figures, sentence):
    found = verdicts(SUMMARY | summary, FIGURES | figures)
    assert found[0].level == WARNING and any(sentence in verdict.sentence for verdict in found if verdict.advice)
    levels = [(WARNING, NOTE, GOOD).index(verdict.level) for verdict in found]
    assert levels == sorted(levels)


def test_known_partners_are_no_warning():
    known = {"name": "the same known product", "to_loss": "positives, where it knows identities", "expected": [9.0] * 3}
    assert WARNING not in {verdict.level for verdict in verdicts(SUMMARY, FIGURES | {"collisions": [known]})}


def test_shares_are_never_rounded_to_none_or_all():
    assert [percent(part, 10_000) for part in (0, 1, 250, 5_000, 9_999, 10_000)] == [
        "0 %",
        "below 0.1 %",
        "2.5 %",
        "50 %",
        "over 99 %",
        "100 %",
    ]
    assert percent(0, 0) == "0 %"
    assert [number(value) for value in (0, 12_345, 0.26, 1234.5, 1e-7)] == [
        "0",
        "12,345",
        "0.26",
        "1,234",
        "below 0.001",
    ]


def test_the_page_of_the_sample(sample_data):
    file = write_report(sample_data)
    first = file.read_bytes()
    assert file.name == "report.html" and 200_000 < len(first) < 8_000_000
    assert write_report(sample_data).read_bytes() == first
    assert write_report(sample_data, seed=1).read_bytes() != first
    text = first.decode()
    anchors = set(re.findall(r'href="#(\w+)"', text))
    assert anchors == set(re.findall(r'<section id="(\w+)"', text)) and len(anchors) == 14
    page = Page(text)
    assert len([kind for name, kind in page.attributes if name == "class" and kind == "part"]) >= 48
    assert "tokens" in page.words and not list(sample_data.glob(".report*"))


def test_fewer_cases_make_a_smaller_page(sample_data):
    assert len(write_report(sample_data, max_cases=1).read_bytes()) < 0.8 * len(write_report(sample_data).read_bytes())


def test_mined_pairs_are_linked_where_there_are_some(hostile_data):
    (hostile_data / "pairs.html").write_text("x")
    (hostile_data / "logs.json").write_text(json.dumps({"item_pairs": {"kept": 7}, "note": "<script>"}))
    try:
        text = write_report(hostile_data).read_text()
    finally:
        (hostile_data / "pairs.html").unlink()
        (hostile_data / "logs.json").unlink()
    assert 'href="pairs.html"' in text and "item pairs · kept" in text and html.escape("<script>") in text
    assert "<script" not in text


def test_what_is_not_prepared_is_said(tmp_path, sample_data):
    with pytest.raises(UserError, match="prepare.json is missing"):
        write_report(tmp_path)
    (tmp_path / "prepare.json").write_text((sample_data / "prepare.json").read_text())
    with pytest.raises(UserError, match="lacks index.parquet, rejects.parquet"):
        write_report(tmp_path)
