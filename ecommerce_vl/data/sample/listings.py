"""Who lists what: the rows of the sample feed, their pictures, their defects, and the truth about each.

A plan is made first (cheap, all rows), pictures are written afterwards. A row's photographs depend on (product, seller)
only, so a seller's duplicate row repeats title and picture bytes exactly, while two sellers of one product never share
either. Defects are drawn per row and recorded in the truth; row 0 is always sound.
"""

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecommerce_vl.data.sample.chance import generator, happens, pick
from ecommerce_vl.data.sample.drawing import draw_product
from ecommerce_vl.data.sample.photograph import encoded, photograph
from ecommerce_vl.data.sample.products import Product, make_products, make_style
from ecommerce_vl.data.sample.sellers import SELLERS, Seller
from ecommerce_vl.data.sample.titles import write_description, write_title
from ecommerce_vl.data.sample.words import COLORS, MATERIALS, PATTERNS
from ecommerce_vl.data.workers import on_all_cores

# Share of the rows of each kind that is not "normal", and what a careful reader of the feed should do with it.
KINDS = {
    "duplicate": (0.02, "keep"),
    "no_title": (0.03, "keep"),
    "no_image": (0.04, "keep_without_image"),
    "truncated_jpeg": (0.002, "keep_without_image"),
    "html_image": (0.002, "keep_without_image"),
    "missing_file": (0.002, "keep_without_image"),
    "empty_record": (0.002, "reject"),
    "invalid_json": (0.002, "reject"),
    "wrong_encoding": (0.002, "reject"),
    "duplicate_id": (0.002, "reject"),
}
_UNPICTURED = ("no_image", "empty_record")
_BROKEN_PICTURE = ("truncated_jpeg", "html_image", "missing_file")
_HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
# From this size on every kind occurs at least once, however small its share.
_EVERY_KIND_FROM = 100
_UNIT_PRODUCTS = 32  # whose pictures a worker draws at a time


@dataclass(frozen=True)
class Listing:
    """One row of the feed. `pictures` are paths relative to the feed, the main one first."""

    row: int
    id: str
    product: Product
    seller: Seller
    kind: str
    pictures: tuple[str, ...]

    @property
    def expect(self) -> str:
        return KINDS[self.kind][1] if self.kind in KINDS else "keep"


def plan_listings(num_listings: int, seed: int) -> list[Listing]:
    """Return the rows of the feed in order.

    Raises:
        ValueError: if `num_listings` is less than one.
    """
    if num_listings < 1:
        raise ValueError(f"num_listings must be at least 1, got {num_listings}")
    offers = _offers(num_listings, seed)
    kinds = _kinds(num_listings, seed)
    normal = [row for row, kind in enumerate(kinds) if kind == "normal"]
    listings = []
    for row, kind in enumerate(kinds):
        rng = generator(seed, "row", row)
        product, seller = offers[pick(rng, normal) if kind == "duplicate" else row]
        number = row
        if kind == "duplicate_id":
            number = pick(rng, normal[: int(np.searchsorted(normal, row))])
        pictures = _picture_names(seed, row, product, seller, kind)
        listings.append(Listing(row, f"P{number:06d}", product, seller, kind, pictures))
    return listings


def _offers(count: int, seed: int) -> list[tuple[Product, Seller]]:
    """Return `count` (product, seller) pairs in shuffled order, no pair twice."""
    offers: list[tuple[Product, Seller]] = []
    index = 0
    while len(offers) < count:
        for product in make_products(seed, make_style(seed, index)):
            rng = generator(seed, "offers", index, product.variant)
            shops = pick(rng, (1, 2, 3, 4, 5, 6), (0.62, 0.1, 0.09, 0.09, 0.06, 0.04))
            offers += [(product, SELLERS[shop]) for shop in rng.permutation(len(SELLERS))[:shops]]
        index += 1
    order = generator(seed, "order").permutation(count)
    return [offers[place] for place in order]


def _kinds(count: int, seed: int) -> list[str]:
    """Return the kind of each row."""
    kinds = ["normal"] * count
    rows = iter(generator(seed, "kinds").permutation(np.arange(1, count)))
    for kind, (share, _) in KINDS.items():
        for _ in range(max(round(share * count), 1 if count >= _EVERY_KIND_FROM else 0)):
            kinds[next(rows)] = kind
    return kinds


def _picture_names(seed: int, row: int, product: Product, seller: Seller, kind: str) -> tuple[str, ...]:
    if kind in _UNPICTURED:
        return ()
    rng = _offer_generator(seed, "picture count", product, seller)
    count = 1 + (int(rng.integers(1, 4)) if happens(rng, 0.15) else 0)
    form = "png" if happens(rng, 0.03) else "jpg"
    if kind in _BROKEN_PICTURE:
        count, form = 1, "jpg"
    return tuple(f"images/{row:06d}{f'_{k}' if k else ''}.{form}" for k in range(count))


def _offer_generator(seed: int, kind: str, product: Product, seller: Seller, *more: int) -> np.random.Generator:
    return generator(seed, kind, product.style.index, product.variant, SELLERS.index(seller), *more)


def feed_line(listing: Listing, seed: int) -> bytes:
    """Return the row of products.jsonl, newline included; broken kinds give broken bytes."""
    product, seller, style = listing.product, listing.seller, listing.product.style
    rng = _offer_generator(seed, "text", product, seller)
    title = write_title(product, seller, rng)
    description = write_description(product, seller, rng)
    record = {
        "id": listing.id,
        "item_group_id": style.key,
        "catalog_id": product.key,
        "title": title,
        "description": description,
        "brand": style.brand.name if happens(rng, 0.94) else None,
        "product_type": style.category.product_type,
        "color": pick(rng, COLORS[product.color].words(seller.locale)) if happens(rng, 0.9) else None,
        "material": MATERIALS[style.material].words(seller.locale)[0] if happens(rng, 0.7) else None,
        "pattern": PATTERNS[style.pattern].words(seller.locale)[0] if happens(rng, 0.6) else None,
        "size": product.size if happens(rng, 0.9) else None,
        "adult": _adult(style.category.adult, rng),
        "price": f"{product.price * rng.uniform(0.88, 1.15):.2f} EUR",
        "seller_id": seller.key,
        "locale": seller.locale,
    }
    gtin = product.gtin if happens(rng, 0.85) else None
    if listing.kind in ("no_title", "empty_record"):
        record["title"] = ""
    if listing.kind == "empty_record":
        record["description"] = None
    # Feeds leave missing values out, except the GTIN, for which most shop systems export an explicit null.
    record = {name: value for name, value in record.items() if value is not None} | {"gtin": gtin}
    if listing.pictures:
        record["image_link"] = listing.pictures[0]
    if listing.pictures[1:]:
        record["additional_image_link"] = list(listing.pictures[1:])
    if listing.kind == "wrong_encoding":
        record["title"] = f"{title} für Größe"
        return json.dumps(record, ensure_ascii=False).encode("latin-1", "replace") + b"\n"
    line = json.dumps(record, ensure_ascii=False)
    if listing.kind == "invalid_json":
        line = line[: len(line) // 2]
    return line.encode() + b"\n"


def _adult(adult: bool, rng: np.random.Generator) -> str | None:
    if adult:
        return "yes" if happens(rng, 0.92) else None
    return "no" if happens(rng, 0.6) else None


def truth_record(listing: Listing) -> dict:
    """Return the row of truth.jsonl: what the product is, what is wrong with the row, what a reader should do."""
    product, style = listing.product, listing.product.style
    return {
        "row": listing.row,
        "id": listing.id,
        "product": product.key,
        "style": style.key,
        "category": style.category.product_type,
        "brand": style.brand.name,
        "color": product.color,
        "material": style.material,
        "pattern": style.pattern,
        "size": product.size,
        "adult": "yes" if style.category.adult else "no",
        "seller": listing.seller.key,
        "kind": listing.kind,
        "expect": listing.expect,
    }


def write_images(
    directory: Path,
    listings: list[Listing],
    seed: int,
    progress: Callable[[int, int], None] | None,
    *,
    num_workers: int,
) -> int:
    """Write the pictures of all rows below `directory`; return how many files were written.

    `progress(done, total)` counts rows, some products at a time. `num_workers` processes draw, and change no byte.
    """
    (directory / "images").mkdir(parents=True, exist_ok=True)
    rows = sorted(listings, key=lambda listing: (listing.product.key, listing.row))
    products = [list(group) for _, group in itertools.groupby(rows, key=lambda listing: listing.product.key)]
    units = [products[start : start + _UNIT_PRODUCTS] for start in range(0, len(products), _UNIT_PRODUCTS)]
    draw = functools.partial(_write_unit, directory=directory, seed=seed)
    done = written = 0
    for unit, count in zip(units, on_all_cores(draw, units, num_workers=num_workers), strict=True):
        done, written = done + sum(map(len, unit)), written + count
        if progress is not None:
            progress(done, len(listings))
    return written


def _write_unit(products: list[list[Listing]], *, directory: Path, seed: int) -> int:
    """Writes the pictures of the listings of each product; returns how many files."""
    written = 0
    for listings in products:
        pictured = [listing for listing in listings if listing.pictures]
        cutout = draw_product(pictured[0].product, seed) if pictured else None  # once for all of its listings
        for listing in pictured:
            for number, name in enumerate(listing.pictures):
                if listing.kind == "missing_file":
                    continue
                rng = _offer_generator(seed, "photograph", listing.product, listing.seller, number)
                closeup = number > 0 and happens(rng, 0.4)
                content = encoded(photograph(cutout, listing.seller, rng, closeup), rng, name[-3:])
                if listing.kind == "truncated_jpeg":
                    content = content[: len(content) // 2]
                elif listing.kind == "html_image":
                    content = _HTML
                (directory / name).write_bytes(content)
                written += 1
    return written
