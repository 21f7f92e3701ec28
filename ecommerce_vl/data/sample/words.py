"""The vocabulary of the sample catalog: colours, materials, patterns and brands, in English and German.

The first word of each entry is the canonical one; truth and drawing use only the English canonical key, listings use
any of the words in their seller's language. Brands are invented; each owns one emblem (figure and colour), which is
what makes the brand readable from the pixels.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One attribute value: its key and the words sellers use for it in each language."""

    key: str
    english: tuple[str, ...]
    german: tuple[str, ...]

    def words(self, locale: str) -> tuple[str, ...]:
        """Return the words for "en" or "de", canonical one first."""
        return self.german if locale == "de" else self.english


@dataclass(frozen=True)
class Brand:
    """An invented brand, the departments it sells in and its emblem."""

    name: str
    groups: tuple[str, ...]
    figure: str
    color: tuple[int, int, int]


def _terms(*rows: tuple[str, str]) -> dict[str, Term]:
    """Parse rows of "canonical/synonym" words in English and German."""
    terms = (
        Term(english.split("/")[0], tuple(english.split("/")), tuple(german.split("/"))) for english, german in rows
    )
    return {term.key: term for term in terms}


COLORS = _terms(
    ("red/crimson/scarlet", "rot/karminrot"),
    ("blue/royal blue/cobalt", "blau/königsblau"),
    ("navy/dark blue", "marine/dunkelblau"),
    ("turquoise/teal", "türkis/petrol"),
    ("green/emerald", "grün/smaragdgrün"),
    ("olive/khaki", "oliv/khaki"),
    ("yellow/mustard", "gelb/senfgelb"),
    ("orange/apricot", "orange/apricot"),
    ("pink/rose", "rosa/pink"),
    ("purple/violet", "lila/violett"),
    ("brown/chestnut", "braun/kastanie"),
    ("beige/sand", "beige/sand"),
    ("grey/gray/anthracite", "grau/anthrazit"),
    ("black/jet black", "schwarz/tiefschwarz"),
    ("white/ivory", "weiß/weiss/elfenbein"),
)

PIGMENTS = {
    "red": (200, 38, 48),
    "blue": (52, 110, 214),
    "navy": (34, 46, 96),
    "turquoise": (44, 172, 172),
    "green": (52, 146, 78),
    "olive": (118, 120, 62),
    "yellow": (236, 192, 52),
    "orange": (236, 126, 44),
    "pink": (238, 146, 178),
    "purple": (124, 72, 164),
    "brown": (124, 78, 48),
    "beige": (216, 194, 158),
    "grey": (138, 142, 148),
    "black": (44, 44, 50),
    "white": (240, 240, 236),
}

MATERIALS = _terms(
    ("cotton/organic cotton", "Baumwolle/Bio-Baumwolle"),
    ("linen", "Leinen"),
    ("wool/merino wool", "Wolle/Merinowolle"),
    ("silk/satin", "Seide/Satin"),
    ("denim/jeans", "Denim/Jeans"),
    ("polyester/recycled polyester", "Polyester"),
    ("leather/genuine leather", "Leder/Echtleder"),
    ("suede", "Wildleder/Veloursleder"),
    ("canvas", "Canvas/Segeltuch"),
    ("rubber", "Gummi"),
    ("ceramic/stoneware", "Keramik/Steingut"),
    ("glass", "Glas"),
    ("metal/steel/stainless steel", "Metall/Edelstahl"),
    ("wood/oak/walnut", "Holz/Eiche"),
    ("plastic/acrylic", "Kunststoff/Acryl"),
    ("plush", "Plüsch"),
)

PATTERNS = _terms(
    ("plain/solid", "uni/einfarbig"),
    ("striped/stripes", "gestreift/Streifen"),
    ("dotted/polka dot", "gepunktet/Punkte"),
    ("checked/plaid", "kariert/Karo"),
    ("floral/flower print", "geblümt/Blumenmuster"),
    ("zigzag/chevron", "Zickzack"),
    ("blocked/two-tone", "zweifarbig"),
    ("starry/star print", "Sternenmuster/Sterne"),
)

_INK = {"red": (206, 28, 44), "blue": (24, 92, 210), "green": (16, 128, 64), "gold": (204, 148, 20)}


def _brands(*rows: tuple[str, str, str, str]) -> tuple[Brand, ...]:
    return tuple(Brand(name, tuple(groups.split()), figure, _INK[ink]) for name, groups, figure, ink in rows)


BRANDS = _brands(
    ("Acme", "shoes sport tech", "triangle", "red"),
    ("Norvik", "fashion shoes", "chevron", "blue"),
    ("Calluna", "fashion bags", "flower", "red"),
    ("Bergtal", "fashion shoes bags sport", "peak", "green"),
    ("Fennora", "fashion bags", "crescent", "gold"),
    ("Mirelle", "fashion shoes bags", "diamond", "red"),
    ("Oakden", "home", "square", "green"),
    ("Lindhus", "home", "cross", "blue"),
    ("Tavola", "home kitchen", "ring", "red"),
    ("Keramos", "kitchen", "disc", "blue"),
    ("Voltaro", "tech", "bolt", "gold"),
    ("Pixora", "tech", "square", "blue"),
    ("Sonance", "tech", "bars", "red"),
    ("Rondo Kids", "toys sport", "star", "blue"),
    ("Bramble", "toys home", "flower", "green"),
    ("Haldane", "fashion bags time", "cross", "green"),
    ("Solano", "fashion shoes time", "disc", "gold"),
    ("Vento", "shoes sport fashion", "bars", "blue"),
    ("Château Merle", "drinks", "crescent", "red"),
    ("Weingut Auental", "drinks", "diamond", "green"),
    ("Old Harbour", "drinks", "star", "gold"),
    ("Fruttana", "drinks", "ring", "green"),
    ("Tempora", "time", "ring", "gold"),
    ("Kupferhof", "kitchen home", "peak", "red"),
    ("Stella Nord", "fashion shoes", "star", "red"),
    ("Urbanek", "bags fashion tech", "chevron", "gold"),
)
