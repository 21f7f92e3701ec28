"""A log counted by hand, and random ones."""

from __future__ import annotations

import hashlib
import json
import math
import random
import subprocess

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden_log import PRODUCTS, event, golden, query, write_index, write_lines

from ecommerce_vl.data.logs.item_pairs import BITS
from ecommerce_vl.data.logs.mining import mine_logs
from ecommerce_vl.data.logs.query_pairs import UNIT, weighted
from ecommerce_vl.data.logs.settings import Settings
from ecommerce_vl.data.seed_model.vectors import SeedVectors
from ecommerce_vl.errors import UserError

OUTPUTS = ("item_pairs.parquet", "query_pairs.parquet", "query_known.parquet")
OPEN = {"min_clients": 1, "query_fractions": (1.0, 0.0, 0.0)}  # no query is private, none is held out


def mine(folder, queries, events, *, products=PRODUCTS, connection=None, vectors=None, num_threads=2, **config):
    write_index(folder, products)
    clicks = write_lines(folder / "clicks.jsonl", events)
    asked = write_lines(folder / "queries.jsonl", queries)
    engine = {"connection": connection, "num_threads": num_threads}
    return mine_logs(folder, clicks=clicks, queries=asked, vectors=vectors, config=OPEN | config, **engine)


def rows_of(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def digests(folder):
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in OUTPUTS]


def random_log(seed, sessions=60, products=30):
    """A log with every flaw: unknown actions and products, missing ids and times, broken lines, bots, long visits."""
    rng = random.Random(seed)
    words = ("red", "blue", "shoe", "mug", "canvas")
    catalog = [
        (
            f"p{number}",
            " ".join(rng.sample(words, 3)),
            rng.choice(("A > X", "A > Y", "")),
            rng.choice("abc"),
            "train" if number % 6 else "test",
        )
        for number in range(products)
    ]
    queries, events = [], []
    for number in range(3 * sessions):
        session = rng.randrange(sessions)
        second = rng.randrange(30_000)
        text = " ".join(rng.sample(words, rng.choice((1, 2)))) if rng.random() < 0.95 else "jo@example.org"
        queries.append(query(number % (3 * sessions - 5), text, session, second))
        for rank in range(1, rng.randrange(2, 12)):
            product = f"p{int(rng.random() ** 2 * products * 1.05)}"
            made = event("impression", product, number, session, second + rank, rank)
            events.append(made)
            if rng.random() < 0.5:
                flaw = rng.choice([{}] * 12 + [{"session_id": None}, {"timestamp": None}, {"action_name": "zoom"}])
                events.append(made | {"action_name": rng.choice(("click", "view", "add_to_cart", "purchase"))} | flaw)
        if rng.random() < 0.1:
            events.append(rng.choice(("{", "[1]", '"text"', '{"action_name": 3}')))
    events += [event("click", "p1", 0, 999, number // 4, 1) for number in range(250)]  # a machine
    return catalog, queries, events


@pytest.fixture(scope="module")
def golden_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    queries, events = golden()
    return folder, mine(folder, queries, events, candidates="both")


def test_every_rule_of_item_pairs_is_hit_as_counted_by_hand(golden_folder):
    folder, summary = golden_folder
    stages = summary["stages"]
    # 28 events of sessions: 21 impressions and 12 clicks; then a view, a cart, a purchase and a click on the mug.
    reasons = {"unknown_action": 1, "unknown_product": 1, "no_product": 1, "bad_time": 1, "no_session": 1}
    assert stages["events"] == {
        "rows_in": 43,
        "rows_out": 37,
        "dropped": dict(sorted((reasons | {"malformed": 1}).items())),
        "notes": {"without_zone": 0, "without_session": 0, "unknown_query": 0, "before_query": 0, "without_query": 0},
    }
    assert stages["interactions"]["dropped"] == {"repeated": 1}
    assert stages["interactions"]["notes"]["clicks_without_exposure"] == 1  # the mug of q4
    # Session 1 clicks 7 products: 21 candidates; session 2 clicks 4: 6 candidates. p4 is of another category than the 5
    # shoes of session 1, p6 of none (6 candidates).
    assert stages["item_candidates"]["rows_in"] == 27
    assert stages["item_candidates"]["dropped"] == {"category_differs": 5, "category_missing": 6}
    # Pairs of shoes: 10 of {1,2,3,5,7}. In two sessions: those of {1,2,5,7}; (1,5) is trivial; p7 is a test product.
    dropped = {"support": 4, "trivial": 1, "two_splits": 3}
    assert stages["item_pairs"] == {"rows_in": 10, "rows_out": 2, "dropped": dropped}
    pairs = rows_of(folder, "item_pairs")
    assert {frozenset((pair["trigger_id"], pair["recall_id"])) for pair in pairs} == {
        frozenset(("p1", "p2")),
        frozenset(("p2", "p5")),
    }
    for pair in pairs:
        # p2 is clicked in 3 sessions, p1 and p5 in 2.
        assert math.isclose(pair["affinity"], 2 / math.sqrt(3 * 2))
        assert (pair["support"], pair["weight"], pair["relation"], pair["split"]) == (2, 1.0, "same_style", "train")
        bits = BITS["one_query"] + BITS["same_category"] + BITS["query_relevance"] + BITS["support"]
        bits += BITS["not_trivial"]
        sellers = {product[0]: product[3] for product in PRODUCTS}
        other = sellers[pair["trigger_id"]] != sellers[pair["recall_id"]]
        assert pair["reason"] == bits + other * BITS["other_seller"]


def test_query_pairs_are_as_counted_by_hand(golden_folder):
    folder, summary = golden_folder
    pairs = {(pair["query"], pair["product_id"]): pair for pair in rows_of(folder, "query_pairs")}
    # Twice clicked under red shoe: p1, p2, p5, p7. p3, p4 (twice, but under two queries) and p6 have one session.
    assert summary["stages"]["query_support"]["dropped"] == {"support": 4}
    assert set(pairs) == {("red shoe", name) for name in ("p1", "p2", "p5", "p7")}
    weights = {name: pairs["red shoe", name]["weight"] for name in ("p1", "p2", "p5", "p7")}
    # Clicks by rank: 2 of rank 1; 3 clicks, a cart (2) and a purchase (3) at rank 2; 2 at rank 5; 2 at rank 7.
    assert weights == {"p1": 2.0, "p2": (3 + 2 + 3) * 2.0, "p5": 10.0, "p7": 14.0}
    best = pairs["red shoe", "p2"]
    assert [best[name] for name in ("clicks", "carts", "purchases", "impressions")] == [3, 1, 1, 3]
    assert (pairs["red shoe", "p7"]["split"], pairs["red shoe", "p7"]["block"]) == ("test", "novel_product")
    assert (best["split"], best["block"]) == ("train", "")
    # Clicked at all: also what has one session only, or a relevance too low; p7 is a test product.
    known = {(row["query_key"], row["product_row"]): row["weight"] for row in rows_of(folder, "query_known")}
    of_shoe = {row: weight for (key, row), weight in known.items() if key == best["query_key"]}
    assert set(of_shoe) == {0, 1, 2, 3, 4, 5} and of_shoe[1] == best["weight"] and of_shoe[2] == 3.0
    assert best["first_ts"] == 1_767_600_000_000 + 12_000 and best["last_ts"] == 1_767_600_000_000 + 212_000


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_in_are_rows_out_and_dropped(tmp_path, seed):
    catalog, queries, events = random_log(seed)
    stages = mine(tmp_path, queries, events, products=catalog, min_pair_support=1)["stages"]
    assert stages["searches"]["rows_in"] == len(queries) and stages["events"]["rows_in"] == len(events)
    for name, stage in stages.items():
        assert stage["rows_in"] == stage["rows_out"] + sum(stage["dropped"].values()), name
    for before, after in (
        ("events", "sessions"),
        ("sessions", "interactions"),
        ("item_pairs", "item_caps"),
        ("query_support", "query_pairs"),
        ("query_pairs", "query_caps"),
    ):
        assert stages[before]["rows_out"] == stages[after]["rows_in"]
    assert stages["sessions"]["dropped"] == {"bot_rate": 250}
    assert stages["searches"]["dropped"]["repeated_id"] == 5 and stages["searches"]["dropped"]["private"] > 0
    assert stages["item_caps"]["rows_out"] == pq.read_metadata(tmp_path / OUTPUTS[0]).num_rows > 0
    assert stages["query_caps"]["rows_out"] == pq.read_metadata(tmp_path / OUTPUTS[1]).num_rows > 0


def test_events_that_are_older_than_their_query_are_counted(tmp_path):
    name = PRODUCTS[0][0]
    clicks = [event("click", name, 1, 1, second, 1) for second in (90, 99, 100, 110)]
    summary = mine(tmp_path, [query(1, "red shoe", 1, 100)], clicks)
    assert summary["stages"]["events"]["notes"]["before_query"] == 2


def test_a_shuffled_log_and_more_threads_give_the_same_bytes(tmp_path):
    catalog, queries, events = random_log(3)
    mine(tmp_path / "one", queries, events, products=catalog, num_threads=1)
    random.Random(1).shuffle(queries)
    random.Random(2).shuffle(events)
    mine(tmp_path / "four", queries, events, products=catalog, num_threads=4)
    assert digests(tmp_path / "one") == digests(tmp_path / "four")
    assert (tmp_path / "one" / "logs.json").read_bytes() == (tmp_path / "four" / "logs.json").read_bytes()


def another_engine(name, folder):
    if name == "datafusion":
        return pytest.importorskip("ibis").datafusion.connect()
    session = pytest.importorskip("pyspark.sql", reason="pyspark is not installed").SparkSession
    builder = session.builder.master("local[2]").config("spark.sql.warehouse.dir", str(folder / "warehouse"))
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "2")
    return ibis.pyspark.connect(builder.config("spark.sql.session.timeZone", "UTC").getOrCreate())


def has_java():
    try:
        return subprocess.run(["java", "-version"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "engine",
    [
        "datafusion",
        pytest.param(
            "pyspark", marks=[pytest.mark.slow, pytest.mark.skipif(not has_java(), reason="Spark needs Java")]
        ),
    ],
)
def test_another_engine_gives_the_same_bytes(tmp_path, engine):
    if engine == "datafusion":
        pytest.importorskip("datafusion")
    catalog, queries, events = random_log(4, sessions=30)
    switches = {"candidates": "both", "symmetric": True, "bias_mode": "coec"}
    mine(tmp_path / "duckdb", queries, events, products=catalog, **switches)
    connection = another_engine(engine, tmp_path)
    mine(tmp_path / engine, queries, events, products=catalog, connection=connection, **switches)
    assert digests(tmp_path / "duckdb") == digests(tmp_path / engine)
    assert not [name for name in connection.list_tables() if name.startswith("vl_") and "file" not in name]


def test_no_trigger_and_no_recall_has_more_than_its_cap_and_the_best_stay(tmp_path):
    catalog, queries, events = random_log(5)
    mine(tmp_path / "all", queries, events, products=catalog, symmetric=True, min_pair_support=1)
    caps = {"max_per_trigger": 2, "max_per_recall": 3, "min_pair_support": 1}
    mine(tmp_path / "few", queries, events, products=catalog, symmetric=True, **caps)
    every, kept = rows_of(tmp_path / "all", "item_pairs"), rows_of(tmp_path / "few", "item_pairs")
    assert 0 < len(kept) < len(every)
    names = {(pair["trigger_id"], pair["recall_id"]) for pair in kept}
    for trigger in {pair["trigger_id"] for pair in every}:
        of_trigger = sorted((p["affinity"] for p in every if p["trigger_id"] == trigger), reverse=True)
        mine_kept = [p["affinity"] for p in kept if p["trigger_id"] == trigger]
        assert len(mine_kept) <= 2
        assert all(affinity >= of_trigger[:2][-1] for affinity in mine_kept)
    for recall in {pair["recall_id"] for pair in kept}:
        assert sum(name[1] == recall for name in names) <= 3


@pytest.mark.parametrize(("rank", "weight"), [(1, 1), (5, 5), (50, 10), (None, 1)])
def test_a_click_far_down_weighs_more(rank, weight):
    row = {"query_key": 1, "product": 1, "shown": 1, "clicked": 1, "carted": 0, "purchased": 0, "rank": rank}
    table = pa.Table.from_pylist([row], pa.schema([(name, pa.int64()) for name in row]))
    rows = weighted(ibis.memtable(table), Settings())
    assert ibis.duckdb.connect().to_pandas(rows)["micro"].tolist() == [weight * UNIT]


def test_no_client_user_or_session_in_any_output_and_rare_queries_stay_private(tmp_path):
    queries = [query(n, "red shoe" if n < 5 else "red mug", n, n) for n in range(9)]
    queries.append(query(9, "call +49 170 1234567", 1, 50))
    events = [
        event("click", product, n, n, n + 5, 1) | {"user_id": f"user{n}"}
        for n in range(9)
        for product in (("p1", "p2") if n < 5 else ("p4",))
    ]
    summary = mine(tmp_path, queries, events, min_clients=5)
    assert summary["stages"]["query_support"]["dropped"] == {"few_clients": 1}  # red mug: 4 clients
    assert {pair["query"] for pair in rows_of(tmp_path, "query_pairs")} == {"red shoe"}
    assert summary["stages"]["searches"]["dropped"] == {"private": 1}
    for name in (*OUTPUTS, "logs.json"):
        data = (tmp_path / name).read_bytes()
        columns = pq.read_schema(tmp_path / name).names if name.endswith("parquet") else list(json.loads(data))
        assert not {"client", "session", "user", "client_id", "session_id", "user_id"} & set(columns)
        for word in (b"client1", b"session1", b"user1", b"1234567"):
            assert word not in (data if name == "logs.json" else str(rows_of(tmp_path, name[:-8])).encode())
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        (*OUTPUTS, "logs.json", "index.parquet", "clicks.jsonl", "queries.jsonl")
    )


def test_a_pause_begins_a_new_session(tmp_path):
    """p1, p2 of one query lie an hour apart: no candidate; with a longer gap they are one."""
    queries = [query(n, "red shoe", n, 0) for n in range(2)]
    events = [event("click", "p1", n, n, 1, 1) for n in range(2)] + [
        event("click", "p2", n, n, 3700, 1) for n in (0, 1)
    ]
    assert mine(tmp_path, queries, events)["stages"]["item_candidates"]["rows_in"] == 0
    assert mine(tmp_path, queries, events, session_gap_s=4000)["stages"]["item_caps"]["rows_out"] == 1


def test_vectors_of_a_seed_model_decide(tmp_path):
    queries, events = golden()
    vectors = {"p1": ([1.0, 0.0], [1.0, 0.0]), "p2": ([0.995, 0.0995], [0.894, 0.447]), "p5": ([0.0, 1.0], [1.0, 0.0])}
    vectors |= {"unknown": ([0.0, 1.0], [0.0, 1.0]), "p4": (None, [0.0, 1.0])}
    image, text = zip(*vectors.values(), strict=True)
    table = pa.table(
        {"product_id": list(vectors), "image": pa.array(image, pa.list_(pa.float32(), 2)), "text": list(text)}
    )
    pq.write_table(table.slice(0, 2), tmp_path / "part-0.parquet")
    pq.write_table(table.slice(2), tmp_path / "part-1.parquet")
    seed = SeedVectors(
        files=sorted(tmp_path.glob("part-*")),
        columns={"image": "image", "text": "text"},
        fingerprint="",
        space_id="space",
        trained_on=None,
    )
    summary = mine(tmp_path / "data", queries, events, vectors=seed)
    assert summary["stages"]["item_vectors"] == {"rows_in": 2, "rows_out": 1, "dropped": {"image_cosine": 1}}
    assert (summary["skipped"], summary["vectors"]) == ([], "space")
    assert rows_of(tmp_path / "data", "item_pairs")[0]["reason"] & BITS["image_cosine"]


def test_blocks_keep_novel_queries_out_of_training(tmp_path):
    catalog, queries, events = random_log(6)
    mine(tmp_path, queries, events, products=catalog, query_fractions=(0.5, 0.2, 0.3))
    pairs = rows_of(tmp_path, "query_pairs")
    words = lambda pair: " ".join(sorted(pair["query"].split()))
    trained = {words(pair) for pair in pairs if pair["split"] == "train"}
    trained_products = {pair["product_id"] for pair in pairs if pair["split"] == "train"}
    assert {pair["block"] for pair in pairs} >= {"", "in_domain", "novel_query", "novel_product"}
    for pair in pairs:
        assert (pair["block"] == "") == (pair["split"] == "train")
        if pair["block"] in ("novel_query", "novel_both"):
            assert words(pair) not in trained
        if pair["block"] in ("novel_product", "novel_both"):
            assert pair["product_id"] not in trained_products


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"min_suport": 1}, "logs.min_suport is no setting"),
        ({"bias_mode": "all"}, "expected one of ips, coec, none"),
        ({"min_clients": "five"}, "expected int"),
        ({"actions": "look=see"}, "expected one of impression"),
        ({"min_propensity": 0.0}, "min_propensity=0.0; expected above 0"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path, config, message):
    with pytest.raises(UserError, match=message):
        mine(tmp_path, [query(1, "a", 1, 0)], [event("click", "p1", 1, 1, 1)], **config)
    assert not (tmp_path / ".logs.partial").exists()
