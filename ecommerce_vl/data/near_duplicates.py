"""Titles compared: MinHash bands to find those that are nearly the same, similarities and numbers in them to decide.

Bands are computed a row at a time wherever the row is read, and joined in a database. Invariant: a title gives the
same bands in every process and on every machine, since the seed is fixed and setup.py holds rensa to releases of one
algorithm; a test holds the bands to their values.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

import numpy as np
import rensa

SHINGLE = 3  # characters
BANDS, ROWS = 16, 8  # 128 minima; a pair of similarity 0.9 shares a band with probability 0.9999, of 0.5 with 0.06
SEED = 0
PACKS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(?:packs?|set|case|box|bundle|lot|paquete|paquet|confezione|pacote|balení|zestaw|упаковка)"
        r" (?:of|de|da|à|po|von|с) (\d{1,3})\b(?!,?\.?\d| ?(?:[cm]?m|in|inch|ml|l|g|kg|oz|[gt]b)\b)",
        r"\b(\d{1,3})[ -]?(?:packs?|pks?|pcs?|pieces|count|ct|er[ -]?(?:pack|set|packung)|stück|stk|ks|szt|шт)\b",
        r"(\d{1,3}) ?(?:個入?|個セット|本入|本セット|枚入|枚セット|袋入?|件套|只装|支装|片装|盒装|개입|개 세트|팩)",
        r"^(\d{1,2}) ?[x×] +(?=[^\W\d_])",  # "2x Bottle"; elsewhere in a title a speed or a zoom
        r"\b(\d{1,2}) ?[x×] ?\d+(?:[.,]\d+)? ?(?:ml|cl|l|g|kg|oz|fl)\b",
        r"[(\[] ?[x×] ?(\d{1,3}) ?[)\]]",
    )
)
NUMBER_WORDS = re.compile(r"[^\W_]*\d(?:[^\W_]|[.,](?=\d))*")
WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


def normal_title(title: str) -> str:
    """The form in which titles are compared: NFKC, without case, single blanks."""
    title = title.casefold() if title.isascii() else unicodedata.normalize("NFKC", title).casefold()
    return " ".join(title.split())


def shingles(title: str) -> frozenset[str]:
    """All runs of 3 characters of a title; a shorter title is its own shingle, an empty one has none."""
    text = normal_title(title)
    return frozenset(text[start : start + SHINGLE] for start in range(max(len(text) - SHINGLE + 1, min(len(text), 1))))


def shingle_jaccard(a: str, b: str) -> float:
    """Shared over all 3-shingles of two titles, 0 to 1; 0 where either is empty, which is no evidence."""
    left, right = shingles(a), shingles(b)
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if shared else 0.0


def title_bands(title: str) -> np.ndarray:
    """The keys under which a title meets its near duplicates (MinHash with banding: Leskovec et al., MMDS, chapter 3).

    Args:
      title: any text without lone surrogates.

    Returns:
      (BANDS,) uint64; two titles are candidates if they agree in one place. (0,) for an empty title.
    """
    runs = shingles(title)
    if not runs:
        return np.zeros(0, np.uint64)
    sketch = rensa.RMinHash(BANDS * ROWS, SEED)
    sketch.update(runs)
    minima = np.array(sketch.digest(), "<u4").reshape(BANDS, ROWS)
    return np.frombuffer(b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in minima), "<u8")


def pack_size(title: str) -> int:
    """How many of a thing a title offers: 3 for "pack of 3", "3x Cup", "3 pk", "3er-Pack"; 1 where it does not say."""
    text = normal_title(title)
    found = (pattern.search(text) for pattern in PACKS) if any(map(str.isdigit, text)) else ()
    return next((int(match[1]) for match in found if match and int(match[1])), 1)


def word_jaccard(a: str, b: str) -> float:
    """Shared over all words of two titles, 0 to 1; a CJK character is a word, since none stands between blanks."""
    left, right = (set(WORDS.findall(normal_title(title))) for title in (a, b))
    return len(left & right) / len(left | right) if left and right else 0.0


def same_numbers(a: str, b: str) -> bool:
    """Whether two titles name the same pack size, and the same sizes, capacities and model numbers.

    One digit is a small share of a title's shingles, and often all that tells two products apart.
    """
    left, right = (set(NUMBER_WORDS.findall(normal_title(title))) for title in (a, b))
    return left == right and pack_size(a) == pack_size(b)
