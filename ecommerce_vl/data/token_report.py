"""What a tokenizer makes of the titles, language by language.

Languages that the tokenizer has seen little of come out in many tokens a word, and lose their ends to the limit
of length. Words are what spaces separate, which says little of Japanese, Chinese and Thai: compare those by character.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ecommerce_vl.data.tokenizer import TextTokenizer

ALL, UNKNOWN = "all", "unknown"
CHUNK = 65_536  # titles; bounds the memory of their tokens


def token_report(titles: Sequence[str], languages: Sequence[str], tokenizer: TextTokenizer) -> list[dict]:
    """One row for all titles, then one a language, the most frequent first. Empty titles do not count.

    Args:
      titles: N texts.
      languages: N locales; "en-US" and "en_GB" are both "en", an empty one is "unknown".
      tokenizer: with the `max_length` that truncates.

    Returns: rows of `language` str, `titles` int and floats: `tokens_per_word`, `tokens_per_character`,
      `unknown_share` (of tokens), `truncated_share` (of titles longer than `max_length`), `mean_tokens`, `p95_tokens`
      (with the special tokens, as they count against `max_length`; the ratios are without).
    """
    kept = [(title, language) for title, language in zip(titles, languages, strict=True) if title.strip()]
    titles = [title for title, _ in kept]
    language_N = np.array([_primary(language) for _, language in kept], object)
    chunks = [tokenizer.counts(titles[begin : begin + CHUNK]) for begin in range(0, len(titles), CHUNK)]
    columns = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]} if chunks else {}
    columns |= {
        "words": np.array([len(title.split()) for title in titles], np.int32),
        "characters": np.array([len(title) for title in titles], np.int32),
    }
    names, counts = np.unique(language_N.astype(str), return_counts=True)
    frequent = names[np.argsort(-counts, kind="stable")].tolist()
    groups = [(ALL, np.ones(len(titles), bool)), *((name, language_N == name) for name in frequent)] if titles else []
    return [
        {"language": name, **_row({key: column[chosen] for key, column in columns.items()}, tokenizer.max_length)}
        for name, chosen in groups
    ]


def sample_of(records: Sequence[Mapping[str, Any]], *, limit: int = 2_000) -> tuple[list[str], list[str]]:
    """Titles and languages of at most `limit` records, evenly spaced: enough for a table at the start of a run."""
    rows = np.linspace(0, len(records) - 1, min(limit, len(records))).astype(int)
    sample = [records[row] for row in rows.tolist()]
    return [record["title"] for record in sample], [record["locale"] for record in sample]


def token_lines(rows: Sequence[dict], *, max_length: int, limit: int = 6) -> list[str]:
    """The report as lines of a narrow table for people; at most `limit` languages."""
    # Where there is one language, its row repeats that of all.
    shown = rows[1:] if len(rows) == 2 else rows[: 1 + limit]
    head = "language    titles  tokens/word  tokens/char  unknown  mean  95 %  " + f"over {max_length}"
    lines = [
        f"{row['language'][:9]:9} {row['titles']:>8,}  {row['tokens_per_word']:>11.2f}  "
        f"{row['tokens_per_character']:>11.2f}  {row['unknown_share']:>7.1%}  {row['mean_tokens']:>4.0f}  "
        f"{row['p95_tokens']:>4.0f}  {row['truncated_share']:>6.1%}"
        for row in shown
    ]
    hidden = len(rows) - 1 - limit
    return [head, *lines, *([f"and {hidden} more languages"] if hidden > 0 else [])] if rows else []


def _row(columns: dict[str, np.ndarray], max_length: int) -> dict:
    """The figures of one group of titles; none of them is empty."""
    length = columns["tokens"] + columns["special"]
    tokens = int(columns["tokens"].sum())
    return {
        "titles": len(length),
        "tokens_per_word": tokens / int(columns["words"].sum()),
        "tokens_per_character": tokens / int(columns["characters"].sum()),
        "unknown_share": int(columns["unknown"].sum()) / max(tokens, 1),
        "truncated_share": float((length > max_length).mean()),
        "mean_tokens": float(length.mean()),
        "p95_tokens": float(np.percentile(length, 95)),
    }


def _primary(language: str) -> str:
    return language.replace("_", "-").split("-")[0].strip().lower() or UNKNOWN
