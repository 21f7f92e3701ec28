"""Weighted query-product pairs of clicks, carts and purchases and their test blocks.

Pure functions from expressions to expressions, with reasons as in `item_pairs`. Weights are added as whole millionths:
a sum of integers is the same in every order, so threads and shuffled logs change no bit.
"""

from __future__ import annotations

import ibis
from ibis.expr.types import StringValue, Table

from ecommerce_vl.data.logs.item_pairs import first_failed
from ecommerce_vl.data.logs.settings import Settings

UNIT = 1_000_000  # parts of a weight of 1
BLOCKS = ("in_domain", "novel_query", "novel_product", "novel_both")
DRAW = 2**31


def weighted(interactions: Table, settings: Settings) -> Table:
    """Every interaction under a query with `micro`: its worth in millionths of a click at rank 1.

    The rank is the best one that the product had; a cart or purchase of it is worth as much more as the click.
    """
    rows = interactions.filter(interactions.query_key.notnull())
    worth = rows.clicked + settings.cart_weight * rows.carted + settings.purchase_weight * rows.purchased
    rank = ibis.greatest(rows["rank"].fill_null(1), 1).cast("float64")
    propensity = ibis.greatest(rank ** (-settings.eta), settings.min_propensity)
    factor = (UNIT / propensity).round().cast("int64") if settings.bias_mode == "ips" else ibis.literal(UNIT, "int64")
    return rows.mutate(micro=worth * factor, acted=ibis.greatest(rows.clicked, rows.carted, rows.purchased))


def expected(rows: Table) -> Table:
    """Adds `expected`: the chance in millionths that an impression at this rank is clicked, over the whole log."""
    shown = rows.filter(rows.shown == 1)
    rates = shown.group_by(shown_rank=shown["rank"].fill_null(0)).agg(clicks=shown.clicked.sum(), shown=shown.count())
    rate = (UNIT * rates.clicks.cast("float64") / rates.shown.cast("float64")).round().cast("int64")
    rates = rates.select("shown_rank", rate=rate)
    rows = rows.mutate(own_rank=rows["rank"].fill_null(0))
    rows = rows.left_join(rates, rows.own_rank == rates.shown_rank)
    return rows.mutate(expected=rows.rate.fill_null(0) * rows.shown).drop("rate", "shown_rank", "own_rank")


def counted(rows: Table) -> Table:
    """Pairs with an action: query_key, product, sessions, clicks, carts, purchases, impressions, micro, expected,
    shown_clicks (clicks where there was an impression), first_ts, last_ts."""
    pairs = rows.group_by("query_key", "product").agg(
        sessions=rows.acted.sum(),
        clicks=rows.clicked.sum(),
        carts=rows.carted.sum(),
        purchases=rows.purchased.sum(),
        impressions=rows.shown.sum(),
        micro=rows.micro.sum(),
        expected=rows.expected.sum(),
        shown_clicks=(rows.clicked * rows.shown).sum(),
        first_ts=rows.first_ts.min(),
        last_ts=rows.last_ts.max(),
    )
    return pairs.filter(pairs.sessions > 0)


def clients(asked: Table, interactions: Table) -> Table:
    """Distinct clients of every query: query_key, clients."""
    used = interactions.filter(interactions.query_key.notnull()).select("query_key", "client")
    pairs = asked.select("query_key", "client").union(used).distinct()
    return pairs.group_by("query_key").agg(clients=pairs.count())


def supported(pairs: Table, clients: Table, products: Table, settings: Settings) -> Table:
    """Every pair with its product's facts and `reason`: few_clients, support, coec, or null."""
    pairs = pairs.join(clients, "query_key")
    pairs = pairs.join(products.select("product", "id", "split", "category", "order", "draw"), "product")
    often = pairs.shown_clicks * UNIT >= pairs.expected * settings.min_coec
    rules = {
        "few_clients": pairs.clients >= settings.min_clients,
        "support": pairs.sessions >= settings.min_query_support,
        "coec": (pairs.impressions == 0) | often,
    }
    if settings.bias_mode == "coec":
        # Clicks over those to be expected of where the product was shown; 1 where nothing is known of that.
        ratio = pairs.shown_clicks.cast("float64") * UNIT / pairs.expected.nullif(0).cast("float64")
        pairs = pairs.mutate(micro=(ratio.fill_null(1.0) * UNIT).round().cast("int64"))
    return pairs.mutate(reason=first_failed(rules))


def main_categories(pairs: Table, settings: Settings) -> Table:
    """A query's main categories: the fewest that carry `category_mass` of its weight, each at least a share of it."""
    known = pairs.filter(pairs.category.notnull())
    masses = known.group_by("query_key", "category").agg(mass=known.micro.sum())
    by_mass = {"group_by": "query_key", "order_by": [ibis.desc("mass"), "category"]}
    masses = masses.mutate(
        total=masses.mass.sum().over(ibis.window(group_by="query_key")),
        upto=masses.mass.sum().over(ibis.window(**by_mass, preceding=None, following=0)),
    )
    before = (masses.upto - masses.mass).cast("float64") < settings.category_mass * masses.total
    large = masses.mass.cast("float64") >= settings.min_category_share * masses.total
    return masses.filter(before & large).select(of="query_key", leaf="category")


def judged(pairs: Table, relevance: Table, queries: Table, settings: Settings) -> Table:
    """Category, relevance and splits: kept pairs with `reason`, `block` and the final `split`.

    Args:
      pairs: as `supported`, kept ones; relevance: see `relevance.lexical`; queries: query_key, query, query_split, draw
      (a number below 2^31), navigational; one row a query_key.
    """
    main = main_categories(pairs, settings)
    pairs = pairs.left_join(main, [pairs.query_key == main.of, pairs.category == main.leaf])
    fits = relevance.select(fits_query="query_key", fits_product="product", hits="hits")
    pairs = pairs.left_join(fits, [pairs.query_key == fits.fits_query, pairs["product"] == fits.fits_product])
    texts = queries.select("query_key", "query", "query_split", "navigational", query_draw="draw")
    pairs = pairs.join(texts, "query_key").rename(product_split="split")
    pairs = pairs.mutate(split=split_of_pair(pairs, settings))
    checked = ibis.literal(settings.category_level != "none")
    rules = {
        "category_missing": pairs.category.notnull() | ~checked,
        "category_differs": pairs.leaf.notnull() | ~checked,
        "relevance": pairs.hits.fill_null(0) >= settings.min_query_words,
        "two_splits": pairs.split != "",
    }
    return pairs.mutate(reason=first_failed(rules))


def split_of_pair(pairs: Table, settings: Settings) -> StringValue:
    """train, validation or test; "" for a query and a product of two different held-out splits.

    A pair of a training query and a training product is drawn (block in_domain where it is held out), any other pair
    lies where its held-out side lies.
    """
    # In int64 on every engine: both draws are below 2^31.
    draw = (pairs.query_draw * 1_103_515_245 + pairs.draw * 12_345 + 40_503) % DRAW
    train, validation, _ = settings.query_fractions
    drawn = ibis.cases(
        (draw < int(train * DRAW), "train"), (draw < int((train + validation) * DRAW), "validation"), else_="test"
    )
    query, product = pairs.query_split, pairs.product_split
    return ibis.cases(
        ((query == "train") & (product == "train"), drawn),
        (query == "train", product),
        ((product == "train") | (query == product), query),
        else_="",
    )


def with_block(pairs: Table) -> Table:
    """Adds `block`: "" in training, else which side the training pairs have not seen."""
    known_query, known_product = pairs.query_split == "train", pairs.product_split == "train"
    block = ibis.cases(
        (pairs.split == "train", ""),
        (known_query & known_product, "in_domain"),
        (known_product, "novel_query"),
        (known_query, "novel_product"),
        else_="novel_both",
    )
    return pairs.mutate(block=block)


def known(supported: Table, queries: Table, settings: Settings) -> Table:
    """What was clicked for a query at all, whatever rule dropped the pair later: no negative of the query in training.

    Of training queries and products, and of queries that enough clients asked; pairs that are drawn to be held out are
    not told. query_key, product_row, weight.
    """
    pairs = supported.filter((supported.reason != "few_clients").fill_null(True))
    texts = queries.select("query_key", "query_split", query_draw="draw")
    pairs = pairs.join(texts, "query_key").rename(product_split="split")
    pairs = pairs.filter(split_of_pair(pairs, settings) == "train")
    return pairs.select("query_key", product_row="product", weight=pairs.micro.cast("float64") / UNIT)


def capped(pairs: Table, settings: Settings) -> Table:
    """Caps: every pair with `dropped`: max_products_per_query, max_queries_per_product, or null."""
    of_query = ibis.window(group_by="query_key", order_by=[ibis.desc("micro"), "order", "product"])
    pairs = pairs.mutate(place=ibis.row_number().over(of_query))
    pairs = pairs.mutate(over=(pairs.place >= settings.max_products_per_query).cast("int64"))
    of_product = ibis.window(group_by="product", order_by=["over", ibis.desc("micro"), "query_key"])
    pairs = pairs.mutate(product_place=ibis.row_number().over(of_product))
    rules = {
        "max_products_per_query": pairs.over == 0,
        "max_queries_per_product": pairs.product_place < settings.max_queries_per_product,
    }
    return pairs.mutate(dropped=first_failed(rules))


def finished(pairs: Table) -> Table:
    """The columns of the output; what `weight` is against the mean of its query is decided where pairs are drawn."""
    pairs = pairs.mutate(weight=pairs.micro.cast("float64") / UNIT)
    names = ("query_key", "query", "clicks", "carts", "purchases", "impressions", "weight")
    times = ("first_ts", "last_ts", "split", "block", "navigational")
    return with_block(pairs).select(*names, *times, product_id="id", product_row="product")
