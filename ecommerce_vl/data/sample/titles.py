"""Titles and descriptions of the sample catalog, as ten sellers in two languages would write them.

A title is words in the seller's order with parts left out, replaced by synonyms, abbreviated or shouted, plus
advertising. Some titles leave out the noun, so that the category then follows only from brand, size or photograph; the
print layout and the geometry are never told.
"""

import numpy as np

from ecommerce_vl.data.sample.chance import happens, pick
from ecommerce_vl.data.sample.products import Product
from ecommerce_vl.data.sample.sellers import Seller
from ecommerce_vl.data.sample.words import COLORS, MATERIALS, PATTERNS, Term

_LEADING = {
    "en": ("*** SALE ***", "NEW!", "SALE -30%", "Top deal:", "[HOT]"),
    "de": ("*** SALE ***", "NEU!", "TOP-ANGEBOT", "-30% RABATT", "%% AKTION %%"),
}
_TRAILING = {
    "en": ("FREE SHIPPING", "fast delivery", "best price!!", "- ships from EU", "gift idea"),
    "de": ("GRATIS VERSAND", "schnelle Lieferung", "Bestpreis!!", "- sofort lieferbar", "Geschenkidee"),
}
_ADJECTIVES = {
    "en": ("classic", "modern", "premium", "elegant", "new", "original", "everyday"),
    "de": ("klassisch", "modern", "Premium", "elegant", "neu", "Original", "Alltag"),
}
_SHORT = {"black": "blk", "white": "wht", "cotton": "cttn", "schwarz": "schw.", "Baumwolle": "BW"}
_LINKS = {
    "by": {"en": "by", "de": "von"},
    "of": {"en": "of", "de": "aus"},
    "in": {"en": "in", "de": "in"},
}
# How likely a part that the seller's order asks for is left out all the same; the noun has the seller's own rate.
_OMITTED = {"brand": 0.12, "model": 0.12, "color": 0.15, "material": 0.3, "pattern": 0.3, "size": 0.3}


def write_title(product: Product, seller: Seller, rng: np.random.Generator) -> str:
    """Return one title of `product`; never empty."""
    parts = [_part(words.split(), product, seller, rng) for words in _groups(seller, rng)]
    title = seller.separator.join(part for part in parts if part) or product.style.model
    if happens(rng, 0.15):
        title = f"{pick(rng, _ADJECTIVES[seller.locale])} {title}"
    if happens(rng, seller.promotion):
        title = f"{pick(rng, _LEADING[seller.locale])} {title}"
    if happens(rng, seller.promotion):
        title = f"{title} {pick(rng, _TRAILING[seller.locale])}"
    if happens(rng, seller.shouting):
        title = title.upper()
    return title


def write_description(product: Product, seller: Seller, rng: np.random.Generator) -> str | None:
    """Return one to three sentences about `product`, or None where the seller wrote nothing."""
    if happens(rng, 0.12):
        return None
    style = product.style
    noun = _noun(product, seller, rng)
    color, material, pattern = _terms(product, seller.locale)
    if seller.locale == "de":
        sentences = [
            f"{noun} der Serie {style.model} von {style.brand.name}.",
            f"Material: {material}, Farbe: {color}.",
            f"Design: {pattern}.",
            f"Größe: {product.size}.",
            pick(rng, ("Pflegeleicht und langlebig.", "Ideal als Geschenk.", "Mit 30 Tagen Rückgaberecht.")),
        ]
    else:
        sentences = [
            f"{noun.capitalize()} from the {style.model} series by {style.brand.name}.",
            f"Made of {material} in {color}.",
            f"Design: {pattern}.",
            f"Size: {product.size}.",
            pick(rng, ("Easy to care for and built to last.", "Makes a great gift.", "30 days return policy.")),
        ]
    chosen = sorted(rng.permutation(len(sentences))[: int(rng.integers(1, 4))])
    return " ".join(sentences[index] for index in chosen)


def _groups(seller: Seller, rng: np.random.Generator) -> list[str]:
    """Return the seller's word order as groups, which its separator joins; sometimes one pair of groups is swapped."""
    order = pick(rng, seller.orders)
    groups = order.split("|") if "|" in order else order.split()
    if len(groups) > 1 and happens(rng, 0.3):
        first = int(rng.integers(len(groups) - 1))
        groups[first : first + 2] = groups[first + 1], groups[first]
    return groups


def _part(fields: list[str], product: Product, seller: Seller, rng: np.random.Generator) -> str:
    """Return the words for one group of fields; a linking word ("by", "in") stands only before a word that is there."""
    words: list[str] = []
    link = ""
    for field in fields:
        if field in _LINKS:
            link = _LINKS[field][seller.locale]
            continue
        omitted = seller.terse if field == "noun" else _OMITTED[field]
        word = "" if happens(rng, omitted) else _word(field, product, seller, rng)
        if word:
            words += [link, word] if link else [word]
        link = ""
    return " ".join(words)


def _word(field: str, product: Product, seller: Seller, rng: np.random.Generator) -> str:
    style = product.style
    if field == "brand":
        return style.brand.name.upper() if happens(rng, 0.1) else style.brand.name
    if field == "model":
        return style.model
    if field == "noun":
        return _noun(product, seller, rng)
    if field == "size":
        return "" if product.size == "One Size" else product.size
    if field == "pattern" and style.pattern == "plain" and happens(rng, 0.8):
        return ""
    terms: dict[str, tuple[dict[str, Term], str]] = {
        "color": (COLORS, product.color),
        "material": (MATERIALS, style.material),
        "pattern": (PATTERNS, style.pattern),
    }
    table, key = terms[field]
    words = table[key].words(seller.locale)
    word = words[0] if happens(rng, 0.75) else pick(rng, words)
    return _SHORT.get(word, word) if happens(rng, 0.08) else word


def _noun(product: Product, seller: Seller, rng: np.random.Generator) -> str:
    nouns = product.style.category.nouns(seller.locale)
    noun = nouns[0] if happens(rng, 0.72) else pick(rng, nouns)
    return noun if seller.locale == "de" or happens(rng, 0.5) else noun.title()


def _terms(product: Product, locale: str) -> tuple[str, str, str]:
    style = product.style
    keys = ((COLORS, product.color), (MATERIALS, style.material), (PATTERNS, style.pattern))
    return tuple(table[key].words(locale)[0] for table, key in keys)
