"""Item pairs of clicks: candidates, rules, direction, caps.

Pure functions from expressions to expressions. A rule marks, and the first rule that a pair fails is its `reason` to be
dropped: so every step counts what it dropped, and pairs in = pairs out + dropped.
"""

from __future__ import annotations

import ibis
from ibis.expr.types import BooleanValue, StringValue, Table

from ecommerce_vl.data.logs.settings import Settings

# Bits of the column `reason` in the output: what speaks for a pair.
BITS = {
    "one_query": 1,
    "similar_block": 2,
    "same_category": 4,
    "query_relevance": 8,
    "title_cosine": 16,
    "image_cosine": 32,
    "support": 64,
    "not_trivial": 128,
    "other_seller": 256,
}


def first_failed(rules: dict[str, BooleanValue]) -> StringValue:
    """The name of the first rule that is not true (null counts as that), null if all are."""
    return ibis.cases(*((~rule.fill_null(False), name) for name, rule in rules.items()), else_=ibis.null(str))


def clicks(interactions: Table, products: Table, relevance: Table, settings: Settings) -> Table:
    """Clicks as candidates are made of: session, client, query_key, product, ts, similar, category, relevant, place.

    `place` counts the clicks of a session's query from 0; clicks without a query are relevant, as none says otherwise.
    """
    rows = interactions.filter(interactions.clicked == 1)
    rows = rows.join(products.select("product", "category", "order"), "product")
    fits = relevance.select(
        of="query_key", at="product", fits=relevance.hits >= relevance["size"] * settings.min_pair_rel
    )
    rows = rows.left_join(fits, [rows.query_key == fits.of, rows.product == fits["at"]])
    in_order = ibis.window(group_by=["session", "query_key"], order_by=["click_ts", "order", "product"])
    return rows.select(
        *("session", "client", "query_key", "product", "similar", "category"),
        ts="click_ts",
        relevant=(rows.query_key.isnull() | rows.fits.fill_null(False)).cast("int64"),
        place=ibis.row_number().over(in_order),
    )


def candidates(clicks: Table, settings: Settings) -> Table:
    """Two products a < b of one session: session, client, a, b, ts, relevant, one_query, similar_block, both
    categories."""
    found = []
    if settings.candidates in ("query", "both"):
        early = clicks.filter(clicks.query_key.notnull() & (clicks.place < settings.max_clicks_per_query))
        right = early.view()
        rows = early.join(
            right,
            [
                early.session == right.session,
                early.query_key == right.query_key,
                early.product < right.product,
            ],
            rname="{name}_b",
        )
        found.append(_candidate(rows, rows.product, rows.product_b, one_query=1))
    if settings.candidates in ("similar", "both"):
        in_order = ibis.window(group_by="session", order_by=["ts", "product"])
        before = {f"{name}_b": clicks[name].lag().over(in_order) for name in ("product", "category", "ts")}
        rows = clicks.mutate(**before, relevant_b=ibis.literal(1, "int64"))
        rows = rows.filter((rows.similar == 1) & rows.product_b.notnull() & (rows.product_b != rows.product))
        found.append(_candidate(rows.mutate(relevant=rows.relevant_b), rows.product, rows.product_b, one_query=0))
    return ibis.union(*found) if len(found) > 1 else found[0]


def _candidate(rows: Table, left, right, *, one_query: int) -> Table:
    return rows.select(
        *("session", "client", "category", "category_b"),
        a=ibis.least(left, right),
        b=ibis.greatest(left, right),
        ts=ibis.greatest(rows.ts, rows.ts_b),
        relevant=rows.relevant * rows.relevant_b,
        one_query=ibis.literal(one_query, "int64"),
        similar_block=ibis.literal(1 - one_query, "int64"),
    )


def constrained(candidates: Table, settings: Settings) -> Table:
    """Every candidate with `reason`: category_missing, category_differs, or null."""
    if settings.category_level == "none":
        return candidates.mutate(reason=ibis.null(str))
    rules = {
        "category_missing": candidates.category.notnull() & candidates.category_b.notnull(),
        "category_differs": candidates.category == candidates.category_b,
    }
    return candidates.mutate(reason=first_failed(rules))


def counted(candidates: Table) -> Table:
    """Pairs of candidates: a, b, n_ab (sessions), support (clients whose candidate is relevant), first_ts, last_ts.

    Three plain groupings instead of distinct counts, because engines can spill those to disk.
    """
    flags = ("one_query", "similar_block")
    when = ibis.ifelse(candidates.relevant == 1, candidates.ts, ibis.null("int64"))
    rows = candidates.group_by("a", "b", "session").agg(
        client=candidates.client.min(),
        relevant=candidates.relevant.max(),
        **{flag: candidates[flag].max() for flag in flags},
        first_ts=when.min(),
        last_ts=when.max(),
    )
    rows = rows.group_by("a", "b", "client").agg(
        sessions=rows.count(),
        relevant=rows.relevant.max(),
        **{flag: rows[flag].max() for flag in flags},
        first_ts=rows.first_ts.min(),
        last_ts=rows.last_ts.max(),
    )
    return rows.group_by("a", "b").agg(
        n_ab=rows.sessions.sum(),
        support=rows.relevant.sum(),
        **{flag: rows[flag].max() for flag in flags},
        first_ts=rows.first_ts.min(),
        last_ts=rows.last_ts.max(),
    )


def judged(pairs: Table, products: Table, settings: Settings) -> Table:
    """Query relevance, support, copies, sellers and splits: every pair with both products' facts and `reason`."""
    facts = ("id", "split", "seller", "image_hash", "title_hash", "catalog", "group", "order")
    for side in ("a", "b"):
        names = {f"{name}_{side}": products[name] for name in facts}
        pairs = pairs.join(products.select(**{side: products.product}, **names), side)
    other = (pairs.seller_a != pairs.seller_b).fill_null(False)
    trivial = (pairs.image_hash_a != "") & (pairs.image_hash_a == pairs.image_hash_b)
    trivial = (trivial & (pairs.title_hash_a == pairs.title_hash_b)).fill_null(False)
    rules = {
        "query_relevance": pairs.support > 0,
        "support": pairs.support >= settings.min_pair_support,
        "trivial": ~trivial,
        "one_seller": other | ibis.literal(not settings.require_other_seller),
        "two_splits": pairs.split_a == pairs.split_b,
    }
    same = ((pairs.catalog_a == pairs.catalog_b) & (pairs.catalog_a >= 0)).fill_null(False)
    variant = ((pairs.group_a == pairs.group_b) & (pairs.group_a >= 0)).fill_null(False)
    relation = ibis.cases((same, "same_product"), (variant, "variant"), else_="same_style")
    return pairs.mutate(reason=first_failed(rules), relation=relation, other_seller=other.cast("int64"))


def compared(pairs: Table, cosines: Table, settings: Settings) -> Table:
    """Relevance by a seed model: every pair with `reason`: no_vector, title_cosine, image_cosine, or null.

    Pairs that are held out stay: what models are measured by is not chosen by one of them.
    """
    pairs = pairs.join(cosines, ["a", "b"])
    held_out = pairs.split_a != "train"
    rules = {
        "no_vector": held_out | (pairs.title_cos.notnull() & pairs.image_cos.notnull()),
        "title_cosine": held_out | (pairs.title_cos >= settings.min_title_cos),
        "image_cosine": held_out | (pairs.image_cos >= settings.min_image_cos),
    }
    return pairs.mutate(reason=first_failed(rules)).drop("title_cos", "image_cos")


def directed(pairs: Table, clicks: Table, settings: Settings, *, compared: bool) -> Table:
    """Direction and the columns of the output: trigger is the side with the smaller hash, or both are.

    Args:
      pairs: as `judged`, kept ones only; clicks: session, product of every click; compared: whether by vectors, too.
    """
    visits = clicks.select("session", "product").distinct()
    counts = visits.group_by("product").agg(sessions=visits.count())
    for side in ("a", "b"):
        pairs = pairs.join(counts.select(**{side: counts.product, f"n_{side}": counts.sessions}), side)
    bits = sum(BITS[flag] * pairs[flag] for flag in ("one_query", "similar_block", "other_seller"))
    always = BITS["query_relevance"] + BITS["support"] + BITS["not_trivial"]
    always += BITS["same_category"] if settings.category_level != "none" else 0
    if compared:
        bits += (BITS["title_cosine"] + BITS["image_cosine"]) * (pairs.split_a == "train").cast("int64")
    n_ab = pairs.n_ab.cast("float64")
    pairs = pairs.mutate(
        affinity=n_ab / (pairs.n_a.cast("float64") * pairs.n_b.cast("float64")).sqrt(),
        weight=(n_ab + 1).ln().round(6) if settings.pair_weight == "log" else ibis.literal(1.0),
        bits=(bits + always).cast("int64"),
    )
    a_first = (pairs.order_a < pairs.order_b) | ((pairs.order_a == pairs.order_b) & (pairs.id_a < pairs.id_b))
    forward = _direction(pairs.filter(a_first), "a", "b"), _direction(pairs.filter(~a_first), "b", "a")
    if settings.symmetric:
        forward = _direction(pairs, "a", "b"), _direction(pairs, "b", "a")
    return ibis.union(*forward)


def _direction(pairs: Table, trigger: str, recall: str) -> Table:
    return pairs.select(
        *("relation", "support", "affinity", "weight", "first_ts", "last_ts", "other_seller"),
        reason="bits",
        trigger_id=f"id_{trigger}",
        recall_id=f"id_{recall}",
        trigger_row=trigger,
        recall_row=recall,
        order=f"order_{recall}",
        trigger_order=f"order_{trigger}",
        split=f"split_{trigger}",
    )


def capped(pairs: Table, settings: Settings) -> Table:
    """Caps: every pair with `dropped`: max_per_trigger, max_per_recall, or null; the greatest affinities stay."""
    best = [ibis.desc("affinity"), ibis.desc("other_seller")]
    of_trigger = ibis.window(group_by="trigger_row", order_by=[*best, "order", "recall_row"])
    pairs = pairs.mutate(place=ibis.row_number().over(of_trigger))
    pairs = pairs.mutate(over=(pairs.place >= settings.max_per_trigger).cast("int64"))
    # Pairs over the first cap come last in the second, so they take no place from others.
    of_recall = ibis.window(group_by="recall_row", order_by=["over", *best, "trigger_order", "trigger_row"])
    pairs = pairs.mutate(recall_place=ibis.row_number().over(of_recall))
    rules = {"max_per_trigger": pairs.over == 0, "max_per_recall": pairs.recall_place < settings.max_per_recall}
    return pairs.mutate(dropped=first_failed(rules))
