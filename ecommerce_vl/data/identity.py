"""Which listings are the same product, copies of each other, or variants of one item.

`relate` reads a table of listings in DuckDB and leaves a table of pairs. The heavy work is SQL, which spills to disk;
Python sees only titles whose keys or bands already met, a batch at a time.

Invariants: an item group gives `variant` and nothing else, and unless the feed's own catalog id says so, no chain of
`same_product` pairs joins two rows of one item group that differ in a variant attribute; a pair carries one relation,
the strictest that holds; a key on too many listings is a default of its shop and no identity; the same listings give
the same tables, in the same order.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ecommerce_vl.data.components import label_components
from ecommerce_vl.data.near_duplicates import BANDS, pack_size, same_numbers, shingle_jaccard, word_jaccard

if TYPE_CHECKING:
    import duckdb

RELATIONS = ("duplicate_listing", "same_product", "variant")  # the strictest first
REASONS = ("item_group", "catalog_id", "gtin", "brand_mpn", "exact_duplicate", "near_duplicate")
# Texts of a listing; '' is a missing one.
LISTING_FIELDS = (
    "id", "seller_id", "catalog_id", "item_group_id", "gtin", "brand", "mpn", "title", "product_type", "color", "size",
    "material", "pattern", "multipack", "is_bundle", "locale",
)  # fmt: skip
VARIANT_FIELDS = ("color", "size", "material", "pattern", "multipack", "is_bundle")
# SQL: two listings x and y are known to differ in one of the attributes that are texts.
DIFFER = " OR ".join(f"(x.{name} <> y.{name} AND x.{name} <> '' AND y.{name} <> '')" for name in VARIANT_FIELDS[:4])
# What shops write into a brand where there is none; two of these agree about nothing.
NO_BRANDS = (
    "generic", "unbranded", "nobrand", "noname", "unknown", "other", "oem", "doesnotapply", "notapplicable", "na",
)  # fmt: skip
RESTRICTED_PREFIXES = ("02", "04", "05", "2", "98", "99")  # of a GTIN-13: numbers inside a shop, and coupons


@dataclasses.dataclass(frozen=True)
class IdentitySettings:
    """Which evidence counts, and how much of it is needed.

    Args:
      catalog_ids, gtins, brand_mpns, exact_duplicates, near_duplicates, item_groups: switches, one a rule.
      gtin_agreement: whether a gtin counts only where brands agree or titles do; gtin_pack: and pack sizes agree.
      max_key_rows: a key on more listings is a code used again, ignored and reported.
      max_bucket_rows: a band of nearly equal titles on more listings is not searched, and counted.
      min_gtin_jaccard: of the word sets of two titles, where the brands do not agree.
      min_mpn_length: letters and digits of a part number; shorter ones collide inside a brand.
      max_hash_distance: bits of 255 between the pictures of near duplicates.
      min_title_jaccard: of the 3-shingles of their titles.
    """

    catalog_ids: bool = True
    gtins: bool = True
    brand_mpns: bool = True
    exact_duplicates: bool = True
    near_duplicates: bool = True
    item_groups: bool = True
    gtin_agreement: bool = True
    gtin_pack: bool = True
    max_key_rows: int = 200
    max_bucket_rows: int = 200
    min_gtin_jaccard: float = 0.3
    min_mpn_length: int = 3
    max_hash_distance: int = 16
    min_title_jaccard: float = 0.9


def relate(connection: duckdb.DuckDBPyConnection, *, settings: IdentitySettings) -> dict[str, int]:
    """Finds the relations between listings.

    Args:
      connection: with a table or view `listings(row BIGINT, title_hash UBIGINT, image_hash BLOB, title_bands UBIGINT[],
        ...)` and `LISTING_FIELDS`; NULL is a missing hash. An empty `seller_id` is a seller like any other: a feed that
        names none comes from one seller.
      settings: which evidence counts.

    Creates (replacing what is there), ordered by their first columns:
      relations(a BIGINT, b BIGINT, relation VARCHAR, reason VARCHAR, detail DOUBLE): a < b. Keys give stars, whose
        transitive closure is the product. Of a `duplicate_listing`, a is the copy to keep. `detail` is the Jaccard
        similarity that decided, else 1; of an item group, 1 where two attributes are known to differ, else 0.
      ignored_keys(kind VARCHAR, value VARCHAR, rows BIGINT): keys above `max_key_rows`.

    Returns:
      Counters: pairs by "relation:reason", and what was refused, see the names below.
    """
    counters: dict[str, int] = {}
    with _functions(connection), _temporary_tables(connection):
        _read_listings(connection)
        _read_keys(connection, settings)
        if settings.catalog_ids:
            members = "SELECT value AS bucket, row, signature, true AS link FROM _members WHERE kind = 'catalog_id'"
            _star(connection, "catalog_id", members)
        if settings.gtins:
            _relate_gtins(connection, settings)
        if settings.brand_mpns:
            _relate_brand_mpns(connection)
        if settings.exact_duplicates:
            _relate_exact_duplicates(connection, settings)
        if settings.near_duplicates:
            counters |= _relate_near_duplicates(connection, settings)
        counters["variant_conflicts"] = _demote_variants(connection)
        if settings.item_groups:
            _relate_item_groups(connection)
        connection.execute(
            "CREATE OR REPLACE TABLE relations AS SELECT a, b, arg_min(relation, rank) AS relation, "
            "arg_min(reason, rank) AS reason, arg_min(detail, rank) AS detail FROM (SELECT *, "
            f"10 * {_place(RELATIONS, 'relation')} + {_place(REASONS, 'reason')} AS rank FROM _pairs) "
            "GROUP BY a, b ORDER BY a, b"
        )
        counters |= {
            "invalid_gtins": _number(connection, "SELECT count(*) FROM _listings WHERE bad_gtin"),
            # On rows that share a valid gtin with others and agree with none of them in brand, title and pack size.
            "refused_gtins": _number(
                connection,
                "SELECT count(*) FROM _members ANTI JOIN "
                "(SELECT unnest([a, b]) AS row FROM _pairs WHERE reason = 'gtin') USING (row) WHERE kind = 'gtin'",
            ),
            "ignored_keys": _number(connection, "SELECT count(*) FROM ignored_keys"),
            "ignored_key_rows": _number(connection, "SELECT coalesce(sum(rows), 0) FROM ignored_keys"),
        }
    pairs = "SELECT relation || ':' || reason, count(*) FROM relations GROUP BY 1"
    return dict(sorted((counters | dict(connection.execute(pairs).fetchall())).items()))


@contextlib.contextmanager
def _functions(connection) -> Iterator[None]:
    """Makes the rules on titles known to SQL, a batch of rows at a time, for as long as they are needed."""
    import pyarrow as pa

    # DuckDB counts the parameters of a function, defaults too, so a rule is bound by a closure.
    one = lambda rule: lambda a: pa.array(list(map(rule, a.to_pylist())), pa.int64())
    two = lambda rule, type: lambda a, b: pa.array(list(map(rule, a.to_pylist(), b.to_pylist())), type)
    functions = {
        "pack_size": (one(pack_size), ["VARCHAR"], "BIGINT"),
        "word_jaccard": (two(word_jaccard, pa.float64()), ["VARCHAR"] * 2, "DOUBLE"),
        "shingle_jaccard": (two(shingle_jaccard, pa.float64()), ["VARCHAR"] * 2, "DOUBLE"),
        "same_numbers": (two(same_numbers, pa.bool_()), ["VARCHAR"] * 2, "BOOLEAN"),
    }
    for name, (batch, parameters, returned) in functions.items():
        connection.create_function(name, batch, parameters, returned, type="arrow")
    try:
        yield
    finally:
        for name in functions:
            connection.remove_function(name)


@contextlib.contextmanager
def _temporary_tables(connection) -> Iterator[None]:
    names = ("_listings", "_members", "_pairs", "_hashed", "_candidates")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE _pairs (a BIGINT, b BIGINT, relation VARCHAR, reason VARCHAR, detail DOUBLE)"
    )
    try:
        yield
    finally:
        for name in names:
            connection.execute(f"DROP TABLE IF EXISTS temp.{name}")


def _read_listings(connection) -> None:
    """`_listings`: one narrow row a listing, its keys in the form in which they are compared."""
    plain = lambda name: rf"regexp_replace(lower(nfc_normalize({name})), '[^\p{{L}}\p{{N}}]+', '', 'g')"
    digit = lambda place: f"(ascii(substr(padded, {place}, 1)) - 48)"
    weighted = " + ".join(f"{3 if place % 2 else 1} * {digit(place)}" for place in range(1, 15))
    is_gtin = (
        "regexp_full_match(gtin, '[0-9]{8}|[0-9]{12,14}') AND gtin <> repeat(left(gtin, 1), length(gtin)) "
        f"AND ({weighted}) % 10 = 0 AND NOT regexp_matches(padded, '^.({'|'.join(RESTRICTED_PREFIXES)})')"
    )
    pack = "CASE WHEN is_bundle IN ('yes', 'true', '1') THEN 'yes' ELSE '' END"
    multipack = "coalesce(nullif(try_cast(multipack AS BIGINT), 0), 0)"
    attributes = ", ".join(f"{plain(name)} AS {name}" for name in VARIANT_FIELDS[:4])
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE _listings AS
        SELECT * EXCLUDE (brand, padded), CASE WHEN brand IN {NO_BRANDS} THEN '' ELSE brand END AS brand,
          hash({", ".join(VARIANT_FIELDS)}) AS signature
        FROM (SELECT row, seller_id, catalog_id, item_group_id, locale, title_hash, image_hash,
            title <> '' AS has_title, lpad(gtin, 14, '0') AS padded,
            CASE WHEN {is_gtin} THEN padded ELSE '' END AS gtin,
            listings.gtin <> '' AND NOT ({is_gtin}) AS bad_gtin, {plain("brand")} AS brand, {plain("mpn")} AS mpn,
            {attributes}, {multipack} AS multipack, {pack} AS is_bundle FROM listings)"""
    )


def _read_keys(connection, settings: IdentitySettings) -> None:
    """`_members`: the rows of every key that several listings share; `ignored_keys`: the keys that too many share."""
    mpn = f"brand <> '' AND length(mpn) >= {settings.min_mpn_length}"
    keys = (
        (settings.catalog_ids, "catalog_id", "catalog_id", "catalog_id <> ''"),
        (settings.gtins, "gtin", "gtin", "gtin <> ''"),
        (settings.brand_mpns, "brand_mpn", "brand || ' ' || mpn", mpn),
        (settings.item_groups, "item_group", "item_group_id", "item_group_id <> ''"),
    )
    used = [
        f"SELECT '{kind}' AS kind, {value} AS value, row FROM _listings WHERE {where}"
        for used, kind, value, where in keys
        if used
    ]
    every = " UNION ALL ".join(used) or "SELECT '' AS kind, '' AS value, row FROM _listings WHERE false"
    shared = f"SELECT kind, value, count(*) AS rows FROM ({every}) GROUP BY kind, value HAVING count(*) > 1"
    connection.execute(
        "CREATE OR REPLACE TABLE ignored_keys AS SELECT kind, value, rows "
        f"FROM ({shared}) WHERE rows > {settings.max_key_rows} ORDER BY kind, value"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE _members AS SELECT kind, value, row, signature "
        f"FROM ({every}) JOIN (SELECT kind, value FROM ({shared}) WHERE rows <= {settings.max_key_rows}) "
        "USING (kind, value) JOIN _listings USING (row)"
    )


def _star(connection, reason: str, members: str) -> None:
    """Joins the rows of every bucket to the least of their signature, and that one, where `link`, to the least of all.

    So what is left of a bucket that turns out to hold several variants is one star a variant.
    """
    connection.execute(
        f"""INSERT INTO _pairs SELECT CASE WHEN row = centre THEN middle ELSE centre END, row, 'same_product',
          '{reason}', 1 FROM (SELECT row, link, min(row) OVER (PARTITION BY bucket, signature) AS centre,
            min(row) OVER (PARTITION BY bucket) AS middle FROM ({members}))
        WHERE row <> centre OR (row <> middle AND link)"""
    )


def _packed(kind: str) -> str:
    """The rows of a kind of key with the pack that they offer: declared, else read from the title."""
    return (
        "SELECT value, row, m.signature, brand, title, l.gtin, l.color, l.size, l.material, l.pattern, concat_ws(' ', "
        "CASE WHEN l.multipack > 0 THEN l.multipack ELSE pack_size(title) END, l.is_bundle) AS pack "
        "FROM _members m JOIN _listings l USING (row) JOIN (SELECT row, title FROM listings) USING (row) "
        f"WHERE kind = '{kind}'"
    )


def _relate_gtins(connection, settings: IdentitySettings) -> None:
    """Listings of one valid gtin and pack: a star a brand, and pairs whose brands do not agree but whose titles do."""
    pack = "pack" if settings.gtin_pack else "''"
    packed = f"(SELECT *, concat_ws(' ', value, {pack}) AS bucket FROM ({_packed('gtin')}))"
    if not settings.gtin_agreement:
        _star(connection, "gtin", f"SELECT bucket, row, signature, true AS link FROM {packed}")
        return
    _star(
        connection,
        "gtin",
        f"SELECT bucket || ' ' || brand AS bucket, row, signature, true AS link FROM {packed} WHERE brand <> ''",
    )
    connection.execute(
        f"""INSERT INTO _pairs SELECT * FROM (
        WITH packed AS MATERIALIZED (SELECT * FROM {packed})
        SELECT a.row AS a, b.row AS b, 'same_product', 'gtin', word_jaccard(a.title, b.title) AS jaccard
        FROM packed a JOIN packed b ON a.bucket = b.bucket AND a.row < b.row AND (a.brand <> b.brand OR a.brand = ''))
        WHERE jaccard >= {settings.min_gtin_jaccard}"""
    )


def _relate_brand_mpns(connection) -> None:
    """Listings of one brand, part number and pack. A part number often names a style, of which gtin, colour or size
    tell the products apart: where these differ inside a bucket, only rows that agree in all of them are joined."""
    fields = ("gtin", *VARIANT_FIELDS[:4])
    agree = " AND ".join(f"max({name}) OVER w = coalesce(min(nullif({name}, '')) OVER w, '')" for name in fields)
    _star(
        connection,
        "brand_mpn",
        f"SELECT bucket, row, hash(signature, gtin) AS signature, {agree} AS link "
        f"FROM (SELECT *, concat_ws(' ', value, pack) AS bucket FROM ({_packed('brand_mpn')})) "
        "WINDOW w AS (PARTITION BY bucket)",
    )


def _relate_exact_duplicates(connection, settings: IdentitySettings) -> None:
    """Equal picture and title, and nothing that tells the listings apart: of each seller the first row is kept, and the
    kept rows of all sellers are one product."""
    key = "image_hash, title_hash, locale, signature, gtin"
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE _candidates AS
        SELECT row, seller_id, min(row) OVER (PARTITION BY {key}, seller_id) AS kept,
          min(row) OVER (PARTITION BY {key}) AS middle, image_hash
        FROM (SELECT * FROM _listings WHERE image_hash IS NOT NULL AND has_title)
        WHERE (image_hash, title_hash) IN (SELECT (image_hash, title_hash) FROM _listings
          WHERE image_hash IS NOT NULL AND has_title GROUP BY image_hash, title_hash HAVING count(*) > 1)"""
    )
    connection.execute(
        "INSERT INTO _pairs SELECT kept, row, 'duplicate_listing', 'exact_duplicate', 1 "
        "FROM _candidates WHERE row <> kept"
    )
    sellers = "SELECT middle FROM _candidates WHERE row = kept GROUP BY middle HAVING count(*)"
    connection.execute(
        "INSERT INTO _pairs SELECT middle, row, 'same_product', 'exact_duplicate', 1 FROM _candidates "
        f"WHERE row = kept AND row <> middle AND middle IN ({sellers} <= {settings.max_key_rows})"
    )
    connection.execute(
        "INSERT INTO ignored_keys SELECT 'exact_duplicate', lower(hex(any_value(image_hash))), count(*) "
        f"FROM _candidates WHERE row = kept AND middle IN ({sellers} > {settings.max_key_rows}) "
        "GROUP BY middle ORDER BY 2, 3"
    )


def _relate_near_duplicates(connection, settings: IdentitySettings) -> dict[str, int]:
    """Nearly equal picture and title, and nothing that tells the listings apart. One band of titles at a time."""
    connection.execute(
        """CREATE OR REPLACE TEMP TABLE _hashed AS
        SELECT row, locale, image_hash::BIT AS bits, title_bands FROM _listings
        JOIN (SELECT row, title_bands FROM listings WHERE len(title_bands) > 0) USING (row)
        ANTI JOIN (SELECT b AS row FROM _pairs WHERE relation = 'duplicate_listing') USING (row)
        WHERE image_hash IS NOT NULL"""
    )
    connection.execute("CREATE OR REPLACE TEMP TABLE _candidates (a BIGINT, b BIGINT)")
    skipped = 0
    for place in range(1, BANDS + 1):
        band = f"SELECT title_bands[{place}] AS band, locale FROM _hashed"
        buckets = f"SELECT band, locale, count(*) AS rows FROM ({band}) GROUP BY band, locale HAVING rows > 1"
        skipped += _number(connection, f"SELECT count(*) FROM ({buckets}) WHERE rows > {settings.max_bucket_rows}")
        connection.execute(
            f"""INSERT INTO _candidates
            WITH members AS MATERIALIZED (SELECT row, bits, band, locale
              FROM (SELECT *, title_bands[{place}] AS band FROM _hashed)
              JOIN (SELECT band, locale FROM ({buckets}) WHERE rows <= {settings.max_bucket_rows}) USING (band, locale))
            SELECT a.row, b.row FROM members a JOIN members b ON a.band = b.band AND a.locale = b.locale
              AND a.row < b.row AND bit_count(xor(a.bits, b.bits)) <= {settings.max_hash_distance}"""
        )
    connection.execute(
        f"""INSERT INTO _pairs SELECT a, b, CASE WHEN own THEN 'duplicate_listing' ELSE 'same_product' END,
          'near_duplicate', jaccard
        FROM (SELECT a, b, x.seller_id = y.seller_id AS own, s.title AS left_title, t.title AS right_title,
            shingle_jaccard(s.title, t.title) AS jaccard
          FROM (SELECT DISTINCT a, b FROM _candidates)
          JOIN _listings x ON x.row = a JOIN _listings y ON y.row = b
          JOIN listings s ON s.row = a JOIN listings t ON t.row = b
          WHERE NOT ({DIFFER} OR (x.gtin <> y.gtin AND x.gtin <> '' AND y.gtin <> '') OR x.is_bundle <> y.is_bundle
            OR (x.multipack <> y.multipack AND x.multipack > 0 AND y.multipack > 0)))
        WHERE jaccard >= {settings.min_title_jaccard} AND same_numbers(left_title, right_title)"""
    )
    candidates = _number(connection, "SELECT count(*) FROM (SELECT DISTINCT a, b FROM _candidates)")
    return {"near_candidates": candidates, "near_buckets_skipped": skipped}


def _demote_variants(connection) -> int:
    """Makes `variant` of the pairs that would chain two variants of one item group into one product; how many.

    A shop that gives all colours of an item one gtin has identified the item. In a product with two variants of one
    item group, only pairs with equal attributes stay, and those that the feed's own catalog id makes. Attributes are
    compared within a language: "rot" and "red" are no conflict.
    """
    conflict = " OR ".join(f"count(DISTINCT nullif({name}, '')) > 1" for name in VARIANT_FIELDS[:4])
    # A single item without multipack is a pack of one, which differs from a pack of two.
    conflict += " OR count(DISTINCT greatest(multipack, 1)) > 1 OR count(DISTINCT is_bundle) > 1"
    within = "item_group_id, locale"
    grouped = f"SELECT item_group_id FROM _listings WHERE item_group_id <> '' GROUP BY {within} HAVING {conflict}"
    joining = "relation IN ('same_product', 'duplicate_listing')"
    if not _number(connection, f"SELECT count(*) FROM ({grouped} LIMIT 1)"):
        return 0
    label_components(connection, edges=f"(SELECT a, b FROM _pairs WHERE {joining})", labels="_components")
    torn = (
        "SELECT component FROM _components JOIN _listings USING (row) WHERE item_group_id <> '' "
        f"GROUP BY component, {within} HAVING {conflict}"
    )
    connection.execute(
        f"""UPDATE _pairs SET relation = 'variant' FROM _listings x, _listings y, _components c
        WHERE x.row = _pairs.a AND y.row = _pairs.b AND c.row = _pairs.a AND {joining} AND reason <> 'catalog_id'
          AND x.signature <> y.signature
          AND c.component IN ({torn})"""
    )
    connection.execute("DROP TABLE _components")
    return _number(connection, "SELECT count(*) FROM _pairs WHERE relation = 'variant'")


def _relate_item_groups(connection) -> None:
    connection.execute(
        f"""INSERT INTO _pairs SELECT centre, members.row, 'variant', 'item_group', CASE WHEN {DIFFER}
            OR greatest(x.multipack, 1) <> greatest(y.multipack, 1) OR x.is_bundle <> y.is_bundle THEN 1 ELSE 0 END
        FROM (SELECT row, min(row) OVER (PARTITION BY value) AS centre FROM _members WHERE kind = 'item_group') members
        JOIN _listings x ON x.row = centre JOIN _listings y ON y.row = members.row WHERE members.row <> centre"""
    )


def _place(values: tuple[str, ...], column: str) -> str:
    return f"list_position({list(values)}, {column})"


def _number(connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
