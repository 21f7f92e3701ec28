"""The sample catalog keeps its promises: same bytes from the same seed, true truth, defects that really are defects.

One catalog of 300 rows is made per test run; every check reads the files, as a user of the feed would.
"""

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecommerce_vl.data.sample import listings, write_sample
from ecommerce_vl.data.sample.drawing import SHAPES, draw_product
from ecommerce_vl.data.sample.listings import KINDS, plan_listings
from ecommerce_vl.data.sample.photograph import encoded, photograph
from ecommerce_vl.data.sample.products import make_products, make_style
from ecommerce_vl.data.sample.taxonomy import CATEGORIES
from ecommerce_vl.data.sample.words import BRANDS, MATERIALS, PATTERNS, PIGMENTS

ROWS = 300


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("sample")
    write_sample(directory, num_listings=ROWS, seed=3)
    return directory


@pytest.fixture(scope="module")
def truth(catalog) -> list[dict]:
    return _rows(catalog / "truth.jsonl")


@pytest.fixture(scope="module")
def records(catalog, truth) -> dict[int, dict]:
    """The readable rows of products.jsonl by row number."""
    lines = (catalog / "products.jsonl").read_bytes().splitlines()
    unreadable = ("invalid_json", "wrong_encoding")
    return {row["row"]: json.loads(lines[row["row"]]) for row in truth if row["kind"] not in unreadable}


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _digest(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _pixels(catalog: Path, record: dict) -> np.ndarray:
    return np.asarray(Image.open(catalog / record["image_link"]).convert("RGB"), np.float32)


def _of_kind(truth: list[dict], *kinds: str) -> list[int]:
    return [row["row"] for row in truth if row["kind"] in kinds]


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (("first", 5), ("again", 5), ("other", 6)):
        write_sample(tmp_path / name, num_listings=40, seed=seed)
    first, again, other = (_digest(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert first["products.jsonl"] != other["products.jsonl"]
    shared = [name for name in first if name.startswith("images/") and name in other]
    assert shared and all(first[name] != other[name] for name in shared)


def test_a_product_is_drawn_alone_as_in_the_catalog():
    product = plan_listings(30, 5)[7].product
    alone = make_products(5, make_style(5, product.style.index))[product.variant]
    assert alone == product
    assert draw_product(alone, 5).tobytes() == draw_product(product, 5).tobytes()


def test_a_picture_shows_its_own_product(catalog):
    shown = [listing for listing in plan_listings(ROWS, 3) if listing.kind == "normal" and listing.pictures][::20]
    assert len({listing.product.key for listing in shown}) > 8
    for listing in shown:
        rng = listings._offer_generator(3, "photograph", listing.product, listing.seller, 0)
        picture = photograph(draw_product(listing.product, 3), listing.seller, rng, False)
        name = listing.pictures[0]
        assert (catalog / name).read_bytes() == encoded(picture, rng, name[-3:])


@pytest.mark.parametrize("rows", [1, 2, 50])
def test_small_catalogs_are_complete(tmp_path, rows):
    calls = []
    counts = write_sample(tmp_path, num_listings=rows, seed=1, progress=lambda done, total: calls.append((done, total)))
    assert len((tmp_path / "products.jsonl").read_bytes().splitlines()) == rows
    assert len(_rows(tmp_path / "truth.jsonl")) == len(_rows(tmp_path / "queries.jsonl")) == counts["listings"] == rows
    assert len(list((tmp_path / "images").iterdir())) == counts["images"]
    assert calls[-1] == (rows, rows) and calls == sorted(set(calls))


def test_workers_draw_the_same_bytes(tmp_path):
    for name, num_workers in (("one", 1), ("two", 2)):
        calls = []
        progress = lambda done, total, calls=calls: calls.append(done)
        counts = write_sample(tmp_path / name, num_listings=160, seed=5, num_workers=num_workers, progress=progress)
        assert counts["products"] > 32 and len(calls) > 1, "several units"
        assert calls[-1] == 160 and calls == sorted(set(calls))
    assert _digest(tmp_path / "one") == _digest(tmp_path / "two")


def test_no_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        write_sample(tmp_path, num_listings=0)


def test_counts_are_what_the_files_hold(catalog, truth, tmp_path):
    counts = write_sample(tmp_path, num_listings=120, seed=3)
    rows = _rows(tmp_path / "truth.jsonl")
    assert counts["products"] == len({row["product"] for row in rows})
    assert counts["styles"] == len({row["style"] for row in rows})
    assert counts["kinds"] == Counter(row["kind"] for row in rows)
    assert counts["actions"] == Counter(event["action_name"] for event in _rows(tmp_path / "clicks.jsonl"))
    assert [row["row"] for row in truth] == list(range(ROWS))
    assert len((catalog / "products.jsonl").read_bytes().splitlines()) == ROWS


def test_truth_belongs_to_its_row(records, truth):
    for row, record in records.items():
        assert record["id"] == truth[row]["id"]
        assert record["product_type"] == truth[row]["category"]
        assert record["seller_id"] == truth[row]["seller"]
        assert record.get("brand", truth[row]["brand"]) == truth[row]["brand"]
        assert record.get("adult", truth[row]["adult"]) == truth[row]["adult"]
    groups = defaultdict(set)
    for row in truth:
        groups[row["product"]].add(tuple(row[name] for name in ("style", "brand", "color", "size", "category")))
    assert all(len(facts) == 1 for facts in groups.values())


def test_tree_is_three_deep_and_wide_enough(truth):
    paths = {row["category"] for row in truth}
    assert len(paths) >= 25
    assert all(len(path.split(" > ")) == 3 for path in paths)
    assert {row["category"].split(" > ")[0] for row in truth if row["adult"] == "yes"} == {"Drinks"}


def test_vocabulary_is_closed():
    assert {category.key for category in CATEGORIES} == set(SHAPES)
    for category in CATEGORIES:
        assert set(category.materials) <= set(MATERIALS)
        assert set(category.patterns) <= set(PATTERNS)
        assert set(category.colors) <= set(PIGMENTS)
        assert any(category.group in brand.groups for brand in BRANDS)


def test_two_languages_and_missing_values(records):
    locales = Counter(record["locale"] for record in records.values())
    assert set(locales) == {"en", "de"} and min(locales.values()) > ROWS // 5
    assert {record["locale"] for record in records.values() if "Größe" in record.get("description", "")} == {"de"}
    for name in ("description", "color", "material", "size", "brand", "adult"):
        present = sum(name in record for record in records.values())
        assert 0 < present < len(records), name
    assert 0.1 < np.mean(["additional_image_link" in record for record in records.values()]) < 0.25


def test_every_kind_occurs_and_truth_says_what_to_do(truth):
    assert {row["kind"] for row in truth} == {"normal", *KINDS}
    for row in truth:
        assert row["expect"] == (KINDS[row["kind"]][1] if row["kind"] in KINDS else "keep")


def test_sound_pictures_decode_and_broken_ones_do_not(catalog, records, truth):
    for row in _of_kind(truth, "normal", "no_title", "duplicate", "duplicate_id"):
        for name in (records[row]["image_link"], *records[row].get("additional_image_link", [])):
            with Image.open(catalog / name) as image:
                image.load()
                assert image.size == (128, 128) and image.mode == "RGB"
                assert image.format == ("PNG" if name.endswith(".png") else "JPEG")
    for row in _of_kind(truth, "truncated_jpeg"):
        with pytest.raises(OSError, match="truncated"):
            Image.open(catalog / records[row]["image_link"]).load()
    for row in _of_kind(truth, "html_image"):
        assert (catalog / records[row]["image_link"]).read_bytes().startswith(b"<!DOCTYPE html>")
        with pytest.raises(OSError, match="cannot identify"):
            Image.open(catalog / records[row]["image_link"])
    for row in _of_kind(truth, "missing_file"):
        assert not (catalog / records[row]["image_link"]).exists()
    for row in _of_kind(truth, "no_image", "empty_record"):
        assert "image_link" not in records[row]


def test_broken_rows_are_broken(catalog, records, truth):
    lines = (catalog / "products.jsonl").read_bytes().splitlines()
    for row in _of_kind(truth, "invalid_json"):
        with pytest.raises(json.JSONDecodeError):
            json.loads(lines[row])
    for row in _of_kind(truth, "wrong_encoding"):
        with pytest.raises(UnicodeDecodeError):
            lines[row].decode("utf-8")
    for row, record in records.items():
        assert (record["title"] == "") == (truth[row]["kind"] in ("no_title", "empty_record"))
    repeated = _of_kind(truth, "duplicate_id")
    for row in repeated:
        assert any(truth[earlier]["id"] == truth[row]["id"] for earlier in range(row))
    others = [row["id"] for row in truth if row["row"] not in repeated]
    assert len(set(others)) == len(others)


def test_duplicates_repeat_a_listing_under_another_id(catalog, records, truth):
    for row in _of_kind(truth, "duplicate"):
        twins = [
            twin
            for twin in _of_kind(truth, "normal")
            if (truth[twin]["product"], truth[twin]["seller"]) == (truth[row]["product"], truth[row]["seller"])
        ]
        assert len(twins) == 1
        assert records[twins[0]]["title"] == records[row]["title"]
        main, copy = (catalog / records[place]["image_link"] for place in (twins[0], row))
        assert main != copy and main.read_bytes() == copy.read_bytes()


def test_sellers_photograph_and_name_a_product_differently(catalog, records, truth):
    offers = defaultdict(list)
    for row in _of_kind(truth, "normal"):
        offers[truth[row]["product"]].append(row)
    shared = [rows for rows in offers.values() if len(rows) > 1]
    assert 0.45 < sum(map(len, shared)) / sum(map(len, offers.values())) < 0.85
    pairs = [(rows[0], rows[1]) for rows in shared]
    for first, second in pairs:
        assert truth[first]["seller"] != truth[second]["seller"]
        assert np.abs(_pixels(catalog, records[first]) - _pixels(catalog, records[second])).mean() > 2
    assert np.mean([records[first]["title"] != records[second]["title"] for first, second in pairs]) > 0.95


def test_pixels_tell_colors_apart_and_sizes_not():
    styles = (make_style(0, index) for index in range(40))
    products = [product for style in styles for product in make_products(0, style)]
    same_color = different_color = 0
    for first, second in itertools.pairwise(products):
        if first.style != second.style:
            continue
        difference = np.abs(np.asarray(draw_product(first, 0), int) - np.asarray(draw_product(second, 0), int)).max()
        if first.color == second.color:
            same_color += 1
            assert first.size != second.size and difference == 0
        else:
            different_color += 1
            assert difference > 20
    assert same_color > 5 and different_color > 5


def test_gtins_are_valid_and_belong_to_one_product(records, truth):
    owners = defaultdict(set)
    for row, record in records.items():
        if record["gtin"] is not None:
            digits = [int(digit) for digit in record["gtin"]]
            assert len(digits) == 13
            assert (sum(digits[0::2]) + 3 * sum(digits[1::2])) % 10 == 0
            owners[record["gtin"]].add(truth[row]["product"])
    assert len(owners) > 50 and all(len(products) == 1 for products in owners.values())
    assert any(record["gtin"] is None for record in records.values())


def test_logs_refer_to_listings_and_queries_that_exist(catalog, truth):
    queries = {query["query_id"]: query for query in _rows(catalog / "queries.jsonl")}
    events = _rows(catalog / "clicks.jsonl")
    kept = {row["id"] for row in truth if row["expect"] != "reject"}
    assert len(queries) == ROWS
    assert {event["action_name"] for event in events} == {"impression", "click", "add_to_cart", "purchase"}
    for query in queries.values():
        assert query["user_query"].strip()
        assert set(query["query_response_hit_ids"]) <= kept
    for event in events:
        query, attributes = queries[event["query_id"]], event["event_attributes"]
        shown = query["query_response_hit_ids"][attributes["position"]["ordinal"] - 1]
        assert shown == attributes["object"]["object_id"]
        assert (event["session_id"], event["client_id"]) == (query["session_id"], query["client_id"])
        assert event["timestamp"] > query["timestamp"] and event["timestamp"].endswith("Z")


def test_clicks_follow_the_query_the_position_and_fame(catalog, truth):
    by_id = {row["id"]: row for row in reversed(truth)}
    queries = {query["query_id"]: query for query in _rows(catalog / "queries.jsonl")}
    clicked, shown = [], Counter()
    for event in _rows(catalog / "clicks.jsonl"):
        place = event["event_attributes"]["object"]["object_id"], event["event_attributes"]["position"]["ordinal"]
        if event["action_name"] == "click":
            clicked.append((event["query_id"], *place))
        elif event["action_name"] == "impression":
            shown[place[1]] += 1
    # The intent of a query that names exactly one category's noun is read off its words, not off the generator.
    nouns = Counter(noun.lower() for c in CATEGORIES for locale in ("en", "de") for noun in set(c.nouns(locale)))
    intents = {
        noun.lower(): c.product_type
        for c in CATEGORIES
        for locale in ("en", "de")
        for noun in c.nouns(locale)
        if nouns[noun.lower()] == 1
    }
    hits = []
    for query_id, listing, _ in clicked:
        named = {intents[word] for word in queries[query_id]["user_query"].split() if word in intents}
        if len(named) == 1:
            hits.append(by_id[listing]["category"] in named)
    assert len(hits) > 100 and np.mean(hits) > 0.8
    positions = Counter(position for _, _, position in clicked)
    assert sum(positions[k] for k in (1, 2, 3)) > 2 * sum(positions[k] for k in (8, 9, 10))
    assert shown[1] > 2 * shown[10]
    together = Counter((query_id, by_id[listing]["style"]) for query_id, listing, _ in clicked)
    assert sum(count > 1 for count in together.values()) > 0.1 * len(queries)
    popular = Counter(by_id[listing]["product"] for _, listing, _ in clicked).most_common()
    top_tenth = sum(count for _, count in popular[: len(popular) // 10])
    assert top_tenth > 0.2 * len(clicked)
