"""Query text and content words: one function for queries and titles, so that the two can be compared.

It runs in Python over distinct texts (engines differ in Unicode normalisation), and engines join its results.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata

# Words without content in the languages of most feeds; a text of nothing else keeps them.
STOP_WORDS = frozenset(
    word
    for words in (
        "a an and at by for from in is of on or the to with",
        "aus das der die den dem des ein eine einen für fur im mit ohne oder und von vom zu zum zur",
        "au aux avec d de des du en et l la le les ou par pour sans sur un une",
        "al con del e el il las los o para por sin un una y da di per",
        "do i na pro s se v z",
    )
    for word in words.split()
)
# Scripts written without spaces, where two letters are the unit.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_WORD = re.compile(r"[^\W_]+")
_EMAIL = re.compile(r"\S+@\S+\.\S+")
_URL = re.compile(r"https?://|www\.|\b[\w-]+\.(?:com|net|org|de|fr|it|es|cz|cn|co\.uk|io|shop)\b")
_PHONE = re.compile(r"(?<![\w])(?:\+|00?)[\d ()/.-]{6,}\d(?!\w)|(?<!\w)\(?\d{2,5}\)?[ -]\d{3,}[ -]\d{2,}(?!\w)")
_ID = re.compile(r"(?=\S*\d)[a-z]{0,4}[-_#]?\d[\da-z_-]{3,}")


@dataclasses.dataclass(frozen=True)
class Query:
    """A query after normalisation.

    Args:
      key: 64-bit hash of `text`, signed.
      text: normalised.
      words: distinct content words in order.
      private: holds an e-mail address, phone number or URL, and must not be written anywhere.
      navigational: nothing but an identifier.
    """

    key: int
    text: str
    words: tuple[str, ...]
    private: bool
    navigational: bool


def hash64(text: str, *, seed: int | None = None) -> int:
    """A signed 64-bit hash, the same on every machine; with a seed, one of a family."""
    salt = b"" if seed is None else f"{seed}:".encode()
    digest = hashlib.blake2b(salt + text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big", signed=True)


def normalised(text: str) -> str:
    """NFKC, lower case, single spaces; control characters count as spaces."""
    text = unicodedata.normalize("NFKC", text).lower()
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def content_words(text: str) -> list[str]:
    """The distinct content words of a text in any script, in order; letter pairs where no spaces are written."""
    words = []
    for word in _WORD.findall(normalised(text)):
        if _UNSPACED.search(word):
            for run in _UNSPACED.findall(word):
                words += [run[place : place + 2] for place in range(max(len(run) - 1, 1))]
            words += _UNSPACED.sub(" ", word).split()
        else:
            words.append(word)
    distinct = list(dict.fromkeys(words))
    return [word for word in distinct if word not in STOP_WORDS] or distinct


def as_query(text: str) -> Query:
    """The query that a shopper's text is; its `text` is empty if nothing is left."""
    text = normalised(text)
    private = bool(_EMAIL.search(text) or _URL.search(text) or _PHONE.search(text))
    navigational = not private and bool(_ID.fullmatch(text))
    return Query(hash64(text), text, tuple(content_words(text)), private, navigational)
