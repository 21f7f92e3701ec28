"""What a task family may read: the splits, the encoder, and the vectors of every method that is measured.

A family is one file with `run(context, results)`; `suite.py` lists them. A *method* is what gives vectors: the model
("") or a baseline of `BASELINES`; all of them answer `features` and `words` alike, so a family measures each with the
same lines. The invariant: a baseline is computed when it is first asked for, once, and sees no label.
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
_LANGUAGES = (MODEL, "untrained", "tfidf")  # methods that have vectors of words


@dataclass(frozen=True)
class Context:
    """The splits of one evaluation: `test` is measured, `train` gives neighbours and probes, `validation` choices.

    encoder: what embeds words and compositions (`ecommerce_vl.encoder.Encoder`); None where only vectors are known,
      and then a task that needs it is skipped by name;
    untrained: the same encoder with its initial parameters, a baseline, or None;
    records: split -> the records that the splits were embedded from, for what embeds them again, or {};
    queries: queries with graded judgements of products, or None;
    pairs: `pair_files.PairFile`s, labelled pairs of listings from elsewhere;
    fine_tune: `(view, train=(records, y), validation=(records, y), test=records, num_classes=C)` -> (scores (N,C) of
      the test records, {what was chosen}); None where the encoder cannot be trained further;
    thorough: also what takes minutes (few-shot, fine-tuning);
    approximate: also measure an approximate index against exact search (needs the extra `ann`);
    seed: of bootstrap, baselines and whatever is drawn.
    """

    test: EmbeddedProducts
    train: EmbeddedProducts
    validation: EmbeddedProducts
    encoder: Any = None
    untrained: Any = None
    records: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    queries: Any = None
    pairs: Sequence[Any] = ()
    fine_tune: Callable[..., tuple[np.ndarray, dict]] | None = None
    thorough: bool = False
    approximate: bool = False
    seed: int = 0
    _cache: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def split(self, name: str) -> EmbeddedProducts:
        """One of `SPLITS`."""
        return {"test": self.test, "train": self.train, "validation": self.validation}[name]

    def methods(self, view: str, *, without: Sequence[str] = ()) -> tuple[str, ...]:
        """The methods with vectors in `view`, the model first; `without` those that a task has no use for."""
        found = [MODEL, "random"]
        found += ["tfidf"] if view in ("text", "product") else []
        found += list(_PIXELS) if view == "image" else []
        found += ["untrained"] if self.untrained is not None and self.records else []
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
        if method == "untrained":
            return self._once((method, split), lambda: self._embed_untrained(split))[view]
        raise ValueError(f"unknown method {method!r}; expected the model or one of {', '.join(BASELINES)}")

    def has_words(self, method: str) -> bool:
        """Whether a method has vectors of words, in the space of its vectors of products."""
        return method in _LANGUAGES and (method != MODEL or self.encoder is not None)

    def words(self, method: str, texts: Sequence[str], *, fitted_on: str = "train"):
        """Vectors (T, d) of texts in the space of a method that `has_words`."""
        if method == "tfidf":
            return self._tfidf(texts, fitted_on)
        return (self.encoder if method == MODEL else self.untrained).embed_texts(list(texts))

    def holes(self, method: str, split: str, *, view: str, rows: np.ndarray) -> int:
        """How many of `rows` a method has no vector for: a baseline with holes would have another pool."""
        table = self.features(method, split, view=view)
        return 0 if issparse(table) else int((~np.isfinite(table[rows]).all(axis=1)).sum())

    @staticmethod
    def no_vectors(holes: int) -> str:
        """Why a baseline with holes is left out."""
        return f"pictures missing or unreadable: {holes} of products with an image vector; the pools would differ"

    def _tfidf(self, titles: Sequence[str], fitted_on: str):
        return baselines.tfidf_vectors(titles, fitted_on=self.split(fitted_on).titles)

    def _embed_untrained(self, split: str) -> dict[str, np.ndarray]:
        records = self.records[split]
        return embedding.embed(self.untrained, records, progress=lambda done, total: None).vectors

    def _once(self, key: tuple, compute: Callable[[], Any]) -> Any:
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]
