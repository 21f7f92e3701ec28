"""The text of a product as the encoder reads it: `title [SEP] field [SEP] field ...`.

Invariant: the title always comes first and is never dropped, so that a title alone is a valid input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ecommerce_vl.data.record import CATEGORY_SEPARATOR

SEPARATOR = " [SEP] "  # of tokenizers that know the token
FIELDS = ("category", "brand", "color", "material", "pattern", "size", "gender", "age_group", "description")


@dataclasses.dataclass(frozen=True)
class TextTemplate:
    """Which fields follow the title, and how they are dropped in training (e-CLIP's sparse text, our form of it).

    Args:
      fields: names of `FIELDS` in order of priority; what does not fit the token limit is cut from the end.
      field_dropout: probability that training leaves a field out.
      word_dropout: probability that training leaves a word of the title out; at least one word stays.
      separator: between the title and the fields, as the tokenizer has it (`TextTokenizer.separator`).
    """

    fields: tuple[str, ...]
    field_dropout: float
    word_dropout: float = 0.0
    separator: str = SEPARATOR

    def __post_init__(self):
        unknown = sorted(set(self.fields) - set(FIELDS))
        if unknown:
            raise ValueError(f"text.fields has {', '.join(unknown)}; expected some of {', '.join(FIELDS)}")

    def enriched(self, record: Mapping[str, str], *, rng: np.random.Generator | None = None) -> str:
        """The title and its fields; with `rng`, with dropout. Empty if the record has no title."""
        title = record["title"]
        if not title:
            return ""
        values = [(name, self._value(record, name)) for name in self.fields]
        if rng is not None:
            if self.word_dropout:
                words = title.split()
                kept = [word for word, u in zip(words, rng.random(len(words)), strict=True) if u >= self.word_dropout]
                title = " ".join(kept or words)
            drawn = rng.random(len(values))
            values = [value for value, u in zip(values, drawn, strict=True) if u >= self.field_dropout]
        parts = [value if name == "category" else f"{name} {value}" for name, value in values if value]
        return self.separator.join([title, *parts])

    def _value(self, record: Mapping[str, str], name: str) -> str:
        if name == "category":
            return record["product_type"].split(CATEGORY_SEPARATOR)[-1]
        return record[name]
