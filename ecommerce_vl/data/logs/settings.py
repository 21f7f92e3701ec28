"""Settings of the logs: how a log is read, and the thresholds of mining with our defaults."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ecommerce_vl.errors import UserError

ACTIONS = ("impression", "click", "similar", "cart", "purchase")
SCHEMAS = ("auto", "ubi", "ga4", "retail", "coveo", "plain")
# What shops call the five things that a shopper can do; `Settings.actions` adds to it.
KNOWN_ACTIONS = {
    "impression": "impression view_item_list impressions search_impression",
    "click": "click view click_through select_item view_item clicks detail-page-view detail",
    "similar": "similar_click similar",
    "cart": "cart add_to_cart add-to-cart addtocart carts add",
    "purchase": "purchase purchases orders transaction purchase-complete",
}
# Settings that are one of a few words; `Settings` says what they mean and checks them.
CHOICES = {
    "schema": SCHEMAS,
    "ordinal_base": ("auto", "0", "1"),
    "exposure": ("auto", "events", "hits"),
    "candidates": ("query", "similar", "both"),
    "pair_weight": ("one", "log"),
    "bias_mode": ("ips", "coec", "none"),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides what is mined. No paper publishes these values; they are our defaults.

    Args:
      schema: one of `SCHEMAS`; auto looks at the columns.
      columns: own column names of a plain log, "session=sid,product=sku,time=ts,action=type".
      actions: own names of actions, "detail=click,basket=cart"; the usual ones are known.
      bots: client ids to leave out, with commas.
      ordinal_base: of positions: auto takes the least seen per application.
      exposure: what was shown: events (impressions), hits (the ids a query returned), auto: hits if no impressions.
      attach_s: a product event without a query belongs to the last search of its session within this time.
      session_gap_s: a longer pause begins a new session.
      max_clicks_per_hour, max_queries_per_hour: a client above either in a clock hour is a bot.
      candidates: query (clicked under one query), similar (a click and the next one on a similar-items block), both.
      max_clicks_per_query: the first clicks of a session's query that make candidates.
      category_level: leaf, a level counted from 1 at the top, or none.
      min_pair_rel: share of a query's content words in the titles of both products of an item pair.
      min_query_words: content words of a query in the title of its product.
      min_title_cos, min_image_cos: of an item pair by the vectors of a seed model, where there are some (--vectors).
      min_pair_support, min_query_support: distinct clients of an item pair, sessions of a query pair.
      require_other_seller: drop pairs of one seller; otherwise other sellers come first among equal affinities.
      max_per_trigger, max_per_recall: item pairs of one product on either side.
      symmetric: emit both directions; otherwise the side with the smaller hash is the trigger.
      pair_weight: one, or log of 1 + sessions.
      min_clients: queries of fewer distinct clients stay private.
      cart_weight, purchase_weight: worth in clicks.
      bias_mode: ips divides by the propensity rank^-eta (at least `min_propensity`), coec by expected clicks.
      min_coec: clicks over expected clicks, where there were impressions.
      category_mass, min_category_share: a query's main categories carry this share, each at least that.
      max_products_per_query, max_queries_per_product: caps of query pairs, by weight.
      query_fractions: of train, validation and test, of queries and of pairs whose ends both train.
      seed: of directions and blocks.
    """

    schema: str = "auto"
    columns: str = ""
    actions: str = ""
    bots: str = ""
    ordinal_base: str = "auto"
    exposure: str = "auto"
    attach_s: int = 1800
    session_gap_s: int = 1800
    max_clicks_per_hour: int = 200
    max_queries_per_hour: int = 60
    candidates: str = "query"
    max_clicks_per_query: int = 20
    category_level: str = "leaf"
    min_pair_rel: float = 0.5
    min_title_cos: float = 0.3
    min_image_cos: float = 0.5
    min_pair_support: int = 2
    require_other_seller: bool = False
    max_per_trigger: int = 20
    max_per_recall: int = 50
    symmetric: bool = False
    pair_weight: str = "one"
    min_clients: int = 5
    cart_weight: int = 2
    purchase_weight: int = 3
    bias_mode: str = "ips"
    eta: float = 1.0
    min_propensity: float = 0.1
    min_query_support: int = 2
    min_coec: float = 0.5
    category_mass: float = 0.8
    min_category_share: float = 0.05
    min_query_words: int = 1
    max_products_per_query: int = 200
    max_queries_per_product: int = 500
    query_fractions: tuple[float, float, float] = (0.9, 0.05, 0.05)
    seed: int = 0

    def __post_init__(self):
        for name, expected in CHOICES.items():
            if getattr(self, name) not in expected:
                raise UserError(f"--config.logs.{name}={getattr(self, name)!r}; expected one of {', '.join(expected)}")
        if self.category_level not in ("leaf", "none") and not (
            self.category_level.isdecimal() and int(self.category_level) > 0
        ):
            raise UserError(
                f"--config.logs.category_level={self.category_level!r}; expected leaf, none or a level from 1"
            )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in ("int", "float") and (isinstance(value, bool) or value < 0):
                raise UserError(f"--config.logs.{field.name}={value!r}; expected a number of at least 0")
        if len(self.query_fractions) != 3 or min(self.query_fractions) < 0 or abs(sum(self.query_fractions) - 1) > 1e-6:
            raise UserError(
                f"--config.logs.query_fractions={self.query_fractions}; expected three shares that add up to 1"
            )
        if self.min_propensity <= 0:
            raise UserError(f"--config.logs.min_propensity={self.min_propensity}; expected above 0")

    @property
    def action_names(self) -> dict[str, str]:
        """Name in the log, in lower case -> one of `ACTIONS`.

        Errors: UserError for an entry of `actions` that is no name=action.
        """
        names = {name: action for action, known in KNOWN_ACTIONS.items() for name in known.split()}
        for name, action in assignments(self.actions, setting="actions").items():
            if action not in ACTIONS:
                raise UserError(f"--config.logs.actions has {name}={action}; expected one of {', '.join(ACTIONS)}")
            names[name.lower()] = action
        return names

    def thresholds(self) -> dict[str, Any]:
        """All settings by name, for the report."""
        return dict(sorted(dataclasses.asdict(self).items()))

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.thresholds()).encode()).hexdigest()


def from_config(config: Mapping[str, Any]) -> Settings:
    """Settings from `config.logs`; what it leaves out has its default.

    Errors: UserError for unknown names and values out of range or of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    unknown = sorted(set(config) - set(fields))
    if unknown:
        raise UserError(f"--config.logs.{unknown[0]} is no setting; expected some of {', '.join(fields)}")
    values = {}
    kinds = {"str": str, "int": int, "float": (int, float), "bool": bool}
    for name, value in config.items():
        kind = fields[name].type
        if kind == "str":
            value = str(value)  # base 0 and level 1 may be written as numbers
        if kind in kinds and not isinstance(value, kinds[kind]):
            raise UserError(f"--config.logs.{name}={value!r}; expected {kind}")
        values[name] = float(value) if kind == "float" else tuple(value) if kind.startswith("tuple") else value
    return Settings(**values)


def assignments(text: str, *, setting: str) -> dict[str, str]:
    """`a=b,c=d` as a dictionary.

    Errors: UserError for a part without an equals sign.
    """
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise UserError(f"--config.logs.{setting} has {part!r}; expected name=value, several with commas")
        pairs[name.strip()] = value.strip()
    return pairs
