"""What a task family may read: the splits, the encoder, and the vectors of every method that is measured.

A family is one file with `run(context, results)`; `suite.py` lists them. A *method* is what gives vectors: the model
(""), a baseline of `BASELINES`, or another encoder beside the model ("untrained", or a published one, `published`); all
of them answer `features` and `words` alike, so a family measures each with the same lines. The invariant: a baseline is
computed when it is first asked for, once, and sees no label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ecommerce_vl.evaluation import baselines, embedding
from ecommerce_vl.evaluation.products import VIEWS, EmbeddedProducts

MODEL = ""
SPLITS = ("test", "train", "validation")
_PIXELS = {"colour_histogram": baselines.colour_vectors, "colour_edges": baselines.colour_edge_vectors}
BASELINES = ("random", "tfidf", *_PIXELS, "untrained", "majority")
_PUBLISHED = "published="


def published(name: str) -> str:
    """The method of a published encoder of this name."""
    return f"{_PUBLISHED}{name}"


def is_baseline(part: str) -> bool:
    """Whether a part of a key names a baseline."""
    return part in BASELINES or part.startswith(_PUBLISHED)


def holes(vectors) -> np.ndarray:
    """Bool (N,): rows without a vector; none of CSR, whose rows without words are zeros."""
    return np.zeros(vectors.shape[0], bool) if issparse(vectors) else ~np.isfinite(vectors).all(axis=1)


def no_vectors(count: int) -> str:
    """Why a method with holes is left out: it would have another pool."""
    return f"{count} products that the model has a vector of have none here; the pools would differ"


@dataclass(frozen=True)
class Context:
    """The splits of one evaluation: `test` is measured, `train` gives neighbours and probes, `validation` choices.

    encoder: what embeds words and compositions (`ecommerce_vl.encoder.Encoder`); None where only vectors are known,
      and then a task that needs it is skipped by name;
    others: method -> another encoder to measure beside it, with the `modalities` that it reads: "untrained", the same
      with its initial parameters, and `published` ones;
    records: split -> the records that the splits were embedded from, for what embeds them again, or {};
    queries: queries with graded judgements of products, or None;
    clicked: (product id, id of one clicked with it), mined pairs of the test split, or None;
    pairs: `pair_files.PairFile`s, labelled pairs of listings from elsewhere;
    fine_tune: `(view, train=(records, y), validation=(records, y), test=records, num_classes=C)` -> (scores (N,C) of
      the test records, {what was chosen}); None where the encoder cannot be trained further;
    thorough: also what takes minutes (few-shot, fine-tuning);
    index: vectors (M,D) -> `approximate.Find`: builds an approximate index, to be measured against exact search; or
      None;
    seed: of bootstrap, baselines and whatever is drawn.
    """

    test: EmbeddedProducts
    train: EmbeddedProducts
    validation: EmbeddedProducts
    encoder: Any = None
    others: Mapping[str, Any] = field(default_factory=dict)
    records: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    queries: Any = None
    clicked: Sequence[tuple[str, str]] | None = None
    pairs: Sequence[Any] = ()
    fine_tune: Callable[..., tuple[np.ndarray, dict]] | None = None
    thorough: bool = False
    index: Callable[[np.ndarray], Callable] | None = None
    seed: int = 0
    _cache: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def split(self, name: str) -> EmbeddedProducts:
        """One of `SPLITS`."""
        return {"test": self.test, "train": self.train, "validation": self.validation}[name]

    @property
    def distinct_splits(self) -> tuple[str, ...]:
        """`SPLITS` without one that is measured itself, so that no product comes twice: the measured one first."""
        return tuple(name for name in SPLITS if name == "test" or self.split(name) is not self.test)

    def everything(self) -> EmbeddedProducts:
        """The products of all splits, those that are measured first."""
        parts = [self.split(name) for name in self.distinct_splits]
        return self._once(("everything",), lambda: EmbeddedProducts.joined(parts))

    def methods(self, view: str, *, without: Sequence[str] = ()) -> tuple[str, ...]:
        """The methods with vectors in `view`, the model first; `without` those that a task has no use for."""
        found = [MODEL, "random"]
        found += ["tfidf"] if view in ("text", "product") else []
        found += list(_PIXELS) if view == "image" else []
        found += [method for method in self.others if self.reads(method, view)] if self.records else []
        return tuple(method for method in found if method not in without)

    def features(self, method: str, split: str, *, view: str, fitted_on: str = "train"):
        """Vectors (N, d) of all products of a split: float32 with NaN where there is none, or CSR.

        `fitted_on`: the split whose titles give the terms of TF-IDF: the train split for what is learned, the gallery
        itself for retrieval, as a search index would. A product without a title is a zero row there, tied with all.
        """
        products = self.split(split)
        if method == MODEL:
            return products.vectors.get(view, np.full((len(products), 1), np.nan, np.float32))
        if method == "random":
            seed = (self.seed, SPLITS.index(split), VIEWS.index(view))
            return self._once((method, split, view), lambda: baselines.random_vectors(len(products), seed=seed))
        if method == "tfidf":
            return self._once((method, split, fitted_on), lambda: self._tfidf(products.titles, fitted_on))
        if method in _PIXELS:
            return self._once((method, split), lambda: _PIXELS[method](products.images))
        if method in self.others:
            return self._once((method, split), lambda: self._embed(self.others[method], split))[view]
        expected = ", ".join([*BASELINES, *self.others])
        raise ValueError(f"unknown method {method!r}; expected the model or one of {expected}")

    def reads(self, method: str, view: str) -> bool:
        """Whether one of `others` has vectors in `view`; of a product it reads what it can."""
        return view == "product" or view in self.others[method].modalities

    def has_words(self, method: str) -> bool:
        """Whether a method has vectors of words, in the space of its vectors of products."""
        if method in self.others:
            return "text" in self.others[method].modalities
        return method == "tfidf" or (method == MODEL and self.encoder is not None)

    def crosses(self, method: str) -> bool:
        """Whether a method compares pictures with words."""
        return method in (MODEL, "random") or (method in self.others and len(self.others[method].modalities) == 2)

    def words(self, method: str, texts: Sequence[str], *, fitted_on: str = "train"):
        """Vectors (T, d) of texts in the space of a method that `has_words`."""
        if method == "tfidf":
            return self._tfidf(texts, fitted_on)
        return self.encoders()[method].embed_texts(list(texts))

    def encoders(self) -> dict[str, Any]:
        """Method -> its encoder, the model's first, where it is known."""
        return ({} if self.encoder is None else {MODEL: self.encoder}) | dict(self.others)

    def lacks(self, method: str, *needed: tuple[str, str, np.ndarray]) -> str:
        """Why a method is left out, "" if all rows of all `needed` (split, view, rows) have a vector."""
        missing = {
            (split, row)
            for split, view, rows in needed
            for row in rows[holes(self.features(method, split, view=view)[rows])].tolist()
        }
        return no_vectors(len(missing)) if missing else ""

    def _tfidf(self, titles: Sequence[str], fitted_on: str):
        return baselines.tfidf_vectors(titles, fitted_on=self.split(fitted_on).titles)

    def _embed(self, encoder, split: str) -> dict[str, np.ndarray]:
        return embedding.embed(encoder, self.records[split], progress=lambda done, total: None).vectors

    def _once(self, key: tuple, compute: Callable[[], Any]) -> Any:
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]
