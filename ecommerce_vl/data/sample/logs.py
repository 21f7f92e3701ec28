"""Search and click logs of the sample catalog, in the style of User Behavior Insights.

Shoppers look for a product they have in mind, the shop ranks by a noisy idea of relevance, and clicks follow relevance
weakened by position. Rows refer only to listings a careful reader keeps, and every event's query is in the query log.
"""

import datetime
from collections.abc import Callable

import numpy as np

from ecommerce_vl.data.sample.chance import generator, happens, pick
from ecommerce_vl.data.sample.listings import Listing
from ecommerce_vl.data.sample.products import Product
from ecommerce_vl.data.sample.words import COLORS, MATERIALS, PATTERNS

_START = datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC)
_HITS = 20
# How often a shopper names a property, and how much it counts for relevance when named.
_ASKED = {
    "color": (0.5, 1.5),
    "brand": (0.3, 1.5),
    "material": (0.22, 0.7),
    "pattern": (0.25, 0.8),
    "style": (0.12, 2.5),
}
_CATEGORY_WEIGHT = 3.0


def make_logs(listings: list[Listing], num_queries: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Return (queries, events), each in order of time; `listings` must hold one that is not to be rejected."""
    shown = [listing for listing in listings if listing.expect != "reject"]
    catalog = _Shelf(shown, seed)
    queries: list[dict] = []
    events: list[dict] = []
    seconds = 0.0
    session = 0
    while len(queries) < num_queries:
        rng = generator(seed, "session", session)
        seconds += rng.exponential(150)
        who = {"client_id": f"u{int(rng.integers(1 + num_queries // 3)):06d}", "session_id": f"s{session:06d}"}
        locale = pick(rng, ("en", "de"), (0.6, 0.4))
        wanted = catalog.wanted(rng)
        clock = seconds
        for _ in range(min(pick(rng, (1, 2, 3), (0.6, 0.28, 0.12)), num_queries - len(queries))):
            if happens(rng, 0.2):
                wanted = catalog.wanted(rng)
            asked = [name for name, (share, _) in _ASKED.items() if happens(rng, share)]
            query_id = f"q{len(queries):06d}"
            hits = catalog.search(wanted, asked, locale, rng)
            queries.append(
                {"query_id": query_id, "user_query": _query_text(shown[wanted].product, asked, locale, rng)}
                | who
                | {"timestamp": _stamp(clock), "query_response_hit_ids": [shown[hit].id for hit in hits]}
            )
            for action, position, delay in _behaviour(hits, catalog.relevance(wanted, asked, hits), catalog.style, rng):
                attributes = {"object": {"object_id": shown[hits[position]].id}, "position": {"ordinal": position + 1}}
                events.append(
                    {"action_name": action, "query_id": query_id}
                    | who
                    | {"timestamp": _stamp(clock + delay), "event_attributes": attributes}
                )
            clock += rng.uniform(40, 120)
        session += 1
    # Sessions overlap in time; a stable sort keeps the order of events within one moment.
    queries.sort(key=lambda query: query["timestamp"])
    events.sort(key=lambda event: event["timestamp"])
    return queries, events


class _Shelf:
    """The searchable listings as integer columns, one entry per listing."""

    def __init__(self, shown: list[Listing], seed: int) -> None:
        products = [listing.product for listing in shown]
        self.style = np.array([product.style.index for product in products])
        self._columns = {
            "color": _codes(products, lambda product: product.color),
            "brand": _codes(products, lambda product: product.style.brand.name),
            "material": _codes(products, lambda product: product.style.material),
            "pattern": _codes(products, lambda product: product.style.pattern),
            "style": self.style,
        }
        self._product = _codes(products, lambda product: product.key)
        self._category = _codes(products, lambda product: product.style.category.key)
        self._german = np.array([listing.seller.locale == "de" for listing in shown])
        # A few products get most of the attention (Pareto), and all their listings share it.
        fame = 1 + generator(seed, "fame").pareto(1.3, self._product.max() + 1)
        self._fame = fame[self._product]
        self._fame_edges = np.cumsum(self._fame)
        self._members = [np.flatnonzero(self._category == code) for code in range(self._category.max() + 1)]

    def wanted(self, rng: np.random.Generator) -> int:
        """Return a listing drawn by fame: what the shopper has in mind."""
        return int(np.searchsorted(self._fame_edges, rng.random() * self._fame_edges[-1], side="right"))

    def relevance(self, wanted: int, asked: list[str], places: np.ndarray) -> np.ndarray:
        """Return how well the listings at `places` serve the query, 0 to 1; 0 in the wrong category."""
        same = self._category[places] == self._category[wanted]
        total = np.full(len(places), _CATEGORY_WEIGHT)
        for name in asked:
            column = self._columns[name]
            total += _ASKED[name][1] * (column[places] == column[wanted])
        # What shoppers have in mind but do not say still decides whether they like what they see.
        total += 1.0 * (self.style[places] == self.style[wanted]) + 0.5 * (
            self._product[places] == self._product[wanted]
        )
        best = _CATEGORY_WEIGHT + sum(_ASKED[name][1] for name in asked) + 1.5
        return same * total / best

    def search(self, wanted: int, asked: list[str], locale: str, rng: np.random.Generator) -> np.ndarray:
        """Return the places of the best hits, best first, with a few strays from other categories."""
        strays = rng.integers(len(self.style), size=10)
        places = np.unique(np.concatenate([self._members[self._category[wanted]], strays]))
        score = 4 * self.relevance(wanted, asked, places) + 0.3 * (self._german[places] == (locale == "de"))
        score += 0.12 * np.log(self._fame[places]) + rng.normal(0, 0.45, len(places))
        return places[np.argsort(-score, kind="stable")[:_HITS]]


def _codes(products: list[Product], value: Callable[[Product], str]) -> np.ndarray:
    return np.unique([value(product) for product in products], return_inverse=True)[1]


def _behaviour(
    hits: np.ndarray, relevance: np.ndarray, style: np.ndarray, rng: np.random.Generator
) -> list[tuple[str, int, float]]:
    """Return (action, position, seconds after the query) while the shopper reads down the result list."""
    actions: list[tuple[str, int, float]] = []
    delay = 0.0
    liked: set[int] = set()
    for position, hit in enumerate(hits):
        delay += rng.uniform(0.4, 2)
        actions.append(("impression", position, delay))
        chance = 0.015 + 0.4 * relevance[position] ** 3
        if style[hit] in liked:
            chance = 0.45
        if happens(rng, chance):
            delay += rng.uniform(1, 4)
            actions.append(("click", position, delay))
            liked.add(int(style[hit]))
            if happens(rng, 0.3 * relevance[position]):
                delay += rng.uniform(5, 20)
                actions.append(("add_to_cart", position, delay))
                if happens(rng, 0.45):
                    delay += rng.uniform(5, 20)
                    actions.append(("purchase", position, delay))
        if happens(rng, 0.1):
            break
    return actions


def _query_text(product: Product, asked: list[str], locale: str, rng: np.random.Generator) -> str:
    """Return what a shopper types: lower case, few words, sometimes misspelt."""
    style = product.style
    words = {
        "brand": style.brand.name,
        "color": pick(rng, COLORS[product.color].words(locale)),
        "pattern": "" if style.pattern == "plain" else PATTERNS[style.pattern].words(locale)[0],
        "material": MATERIALS[style.material].words(locale)[0],
        "style": style.model,
    }
    parts = [words[name] for name in ("brand", "style", "color", "pattern", "material") if name in asked]
    # The noun may go unsaid only where brand and model already say what is meant.
    if not {"brand", "style"} <= set(asked) or happens(rng, 0.5):
        nouns = style.category.nouns(locale)
        parts.insert(0 if happens(rng, 0.15) else len(parts), nouns[0] if happens(rng, 0.6) else pick(rng, nouns))
    text = " ".join(part for part in parts if part).lower()
    if happens(rng, 0.04):
        place = int(rng.integers(len(text) - 1))
        text = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return text


def _stamp(seconds: float) -> str:
    moment = _START + datetime.timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
