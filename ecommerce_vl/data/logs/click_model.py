"""A click log drawn over any prepared catalog, for catalogs that have none: a documented model, no shopper's behaviour.

One session: a shopper wants a product, drawn by fame (product n of a random order with weight n^-fame). The query is
one to three content words of its title. The shop ranks by the share of the query's words in a title, plus a bonus for
the wanted leaf category, plus noise, and shows the first `shown`. The shopper examines rank r with probability r^-eta
(the position-based model; Craswell et al., WSDM 2008) and clicks what is examined by its relation to the wanted one:

    same product or item group   `same`         same leaf category   `alike` + (`same` - `alike`) x title Jaccard
    anything else                `stray`

Invariant: the same catalog, model and seed give the same log; every session is drawn from its own generator.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ecommerce_vl.data.logs.words import content_words
from ecommerce_vl.errors import UserError

START = datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True)
class ClickModel:
    """Args:
    sessions: with one query each, of `sessions / 3` shoppers.
    shown: results of a query.
    eta: examination of rank r is r^-eta; 0 examines all.
    same, alike, stray: probability of a click on an examined product, by its relation to the wanted one.
    fame: exponent of the popularity of products.
    noise: standard deviation of the shop's ranking, where the share of the query's words is 1 at best.
    seed: of everything.
    """

    sessions: int = 10_000
    shown: int = 20
    eta: float = 0.7
    same: float = 0.6
    alike: float = 0.08
    stray: float = 0.01
    fame: float = 0.6
    noise: float = 0.3
    seed: int = 0


def simulate(columns: Mapping[str, Sequence[Any]], model: ClickModel) -> Iterator[tuple[dict, list[dict]]]:
    """(query, its events) of each session in order of time, as rows of User Behavior Insights.

    Args:
      columns: `id`, `title`, `category`, `catalog_key`, `group_key` of the products.

    Errors: UserError if no product has a title.
    """
    shelf = _Shelf(columns)
    if not len(shelf.titled):
        raise UserError("no product has a title of content words, so none can be asked for")
    rng = np.random.default_rng((model.seed, 0))
    fame_T = np.arange(1, len(shelf.titled) + 1) ** -model.fame
    wanted_S = rng.permutation(shelf.titled)[rng.choice(len(fame_T), model.sessions, p=fame_T / fame_T.sum())]
    seconds_S = np.cumsum(rng.exponential(60, model.sessions))
    for session, (wanted, seconds) in enumerate(zip(wanted_S, seconds_S, strict=True)):
        rng = np.random.default_rng((model.seed, 1, session))
        words = shelf.words[wanted]
        asked = [str(word) for word in rng.permutation(words)[: int(rng.integers(1, 4))]]
        who = {
            "client_id": f"u{int(rng.integers(model.sessions // 3 + 1)):06d}",
            "session_id": f"s{session:06d}",
            "query_id": f"q{session:06d}",
        }
        hits = shelf.search(wanted, asked, model, rng)
        query = {"user_query": " ".join(asked), "timestamp": _stamp(seconds)} | who
        query["query_response_hit_ids"] = [shelf.ids[hit] for hit in hits]
        rank_H = np.arange(1, len(hits) + 1)
        chance_H = rank_H**-model.eta * shelf.attraction(wanted, hits, model)
        clicked = np.flatnonzero(rng.random(len(hits)) < chance_H)
        events = [
            {
                "action_name": "click",
                "timestamp": _stamp(seconds + 5 * (number + 1)),
                "event_attributes": {
                    "object": {"object_id": shelf.ids[hits[place]]},
                    "position": {"ordinal": int(place) + 1},
                },
            }
            | who
            for number, place in enumerate(clicked)
        ]
        yield query, events


class _Shelf:
    """The products as columns, and where each word occurs."""

    def __init__(self, columns: Mapping[str, Sequence[Any]]):
        self.ids = list(columns["id"])
        self.words = [content_words(title or "") for title in columns["title"]]
        self.titled = np.flatnonzero([bool(words) for words in self.words])
        self._catalog, self._group = (np.asarray(columns[name]) for name in ("catalog_key", "group_key"))
        paths, leaf = np.unique([path or "" for path in columns["category"]], return_inverse=True)
        self._leaf = np.where(paths[leaf] == "", -1 - np.arange(len(leaf)), leaf)  # unknown is like nothing else
        places = defaultdict(list)
        for row, words in enumerate(self.words):
            for word in set(words):
                places[word].append(row)
        self._places = {word: np.array(rows) for word, rows in places.items()}
        self._num_words = np.array([len(set(words)) for words in self.words])

    def _shared(self, words: Sequence[str]) -> np.ndarray:
        """How many of these words each title has."""
        count = np.zeros(len(self.ids))
        for word in set(words):
            count[self._places[word]] += 1
        return count

    def search(self, wanted: int, asked: Sequence[str], model: ClickModel, rng: np.random.Generator) -> np.ndarray:
        """Rows of what the shop shows, best first."""
        score = self._shared(asked) / len(asked) + 0.5 * (self._leaf == self._leaf[wanted])
        score += rng.normal(0, model.noise, len(score))
        shown = min(model.shown, len(score))
        best = np.argpartition(-score, shown - 1)[:shown]
        return best[np.argsort(-score[best], kind="stable")]

    def attraction(self, wanted: int, hits: np.ndarray, model: ClickModel) -> np.ndarray:
        """Probability that each hit is clicked once it is examined."""
        same = hits == wanted
        for keys in (self._catalog, self._group):
            same |= (keys[hits] == keys[wanted]) & (keys[hits] >= 0)
        shared = self._shared(self.words[wanted])[hits]
        jaccard = shared / np.maximum(self._num_words[hits] + self._num_words[wanted] - shared, 1)
        alike = model.alike + (model.same - model.alike) * jaccard
        return np.where(same, model.same, np.where(self._leaf[hits] == self._leaf[wanted], alike, model.stray))


def _stamp(seconds: float) -> str:
    moment = START + datetime.timedelta(seconds=float(seconds))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
