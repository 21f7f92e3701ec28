"""Text cleaning: what a seller puts around a title that says nothing about the product.

Each rule is one switch; with all of them off a text stays as it is, so that an uncleaned arm differs by config only.
Rules hold in any script, keep case, and leave alone what carries identity: model numbers, sizes such as "32x30" or
"5½", years and pack sizes in brackets. A bracket goes only if all that it holds is promotion.
"""

from __future__ import annotations

import dataclasses
import html
import re
import unicodedata

# Inline tags join what they stand between, as a browser shows it: "H<sub>2</sub>O" is one word. All others part it.
INLINE_TAGS = re.compile(r"</?(?:a|b|big|em|font|i|mark|s|small|span|strong|sub|sup|u)(?:\s[^<>]*)?>", re.I)
UNSEEN_MARKUP = re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>", re.I | re.S)
TAGS = re.compile(r"</?[a-z!?][^<>]*>", re.I)
ENTITIES = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.I)  # "R&D" and "&copy=1" are none
# Trademark signs would become the letters "TM"; soft hyphens, zero width spaces and direction marks are not seen. The
# zero width joiners stay: Persian and the scripts of India spell with them.
NOT_SHOWN = re.compile("[\u2122\u2120\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
FRACTIONS = re.compile("(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215e])")  # 5½ is 5 1/2, not 51/2
LINKS = re.compile(
    r"""(?:https?://|ftp://|\bwww\.)[^\s<>()\[\]{}"'【】]+"""
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    # Bare runs of digits are model numbers and barcodes; a telephone has a country code, an area code or a name.
    r"|(?<![\w+])\+\d(?:[\s().-]{0,2}\d){8,14}(?!\w)"
    r"|(?<!\w)\(\d{3}\)\s?\d{3}[\s-]\d{4}(?!\w)"
    r"|(?:\b(?:tel|phone|telephone|telefon|teléfono|call|mobile|whats\s?app|wechat|тел)\b|电话|手机|微信|電話|전화)"
    r"[\s.:：]{0,3}(?:no\.?\s?)?\+?\d(?:[\s().-]{0,2}\d){6,14}(?!\w)",
    re.I,
)
HAS_LINK = re.compile(r"://|www\.|@|\+\d|\(\d{3}\)|\d{3}.*\d{4}|\d(?:[\s().-]{0,2}\d){6}", re.I)
EMOJI = re.compile(
    "(?:[\U0001f000-\U0001faff\u25a0-\u27bf\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d]"
    "[\ufe0e\ufe0f\u200d\u20e3\U000e0020-\U000e007f]*)+|[\ufe0e\ufe0f\u20e3]+"
)
# Marks that end a phrase are kept once; ornaments between blanks go. "C++" and "A__1" are names.
REPEATED = re.compile(r"([!?.,;:。、・…-])\1+|(?:!\?|\?!)[!?]*")
ORNAMENTS = re.compile(r"(?<![^\W_])[*~=_^#|〜★☆◆◇]{2,}|[*~=_^#|〜★☆◆◇]{2,}(?![^\W_])")
EMPTY_BRACKETS = re.compile(r"[(\[{【「『〔]\s*[)\]}】」』〕]")
# Promotions. Phrases that say so by themselves, in brackets or between dashes at either end of a title.
PHRASES = (
    # English
    r"(?:with )?(?:free|fast|quick|express|worldwide|same day|next day) (?:\w+ )?(?:shipping|delivery|postage)",
    r"free ship|freeship|ships? (?:today|free|fast)|free (?:gift|returns?)|fast ship",
    r"(?:hot|flash|super|big|mega|final|summer|winter|spring|autumn|clearance|warehouse|garage|year end|end of season)"
    r" sales?|on sale|for sale|best ?sell(?:er|ers|ing)|hot sell(?:er|ing)|top (?:seller|rated)|hot (?:deal|item)s?",
    r"(?:best|lowest|cheapest|special|low|factory|wholesale) (?:price|offer|deal)s?|price drop|special offer",
    r"limited(?: time)?(?: (?:offer|deal|sale|stock|only))|last (?:chance|day|one)|today only|(?:only )?\d+ left",
    r"(?:up to )?[-–]?\d+(?:[.,]\d+)? ?% ?(?:off|discount|rabatt|de réduction|de (?:descuento|desconto)|di sconto)",
    r"save (?:up to )?[$£€]?\d+(?:[.,]\d+)? ?[%$£€]?|buy \w+,? get \w+(?: free)?|black friday|cyber (?:monday|week)",
    r"(?:ready|us|uk|eu|local|in|full) stock|(?:us|uk|eu|local) seller|new arrivals?",
    r"\d+ ?% (?:authentic|genuine|original)",
    r"official (?:store|shop)|money back(?: guaranteed?)?|satisfaction guaranteed?|must have|trending(?: now)?|hurry",
    # German, Dutch, French, Spanish, Portuguese, Italian
    r"(?:kostenlose[rn]?|gratis|schneller) ?(?:versand|lieferung)|versandkostenfrei|sonderangebot|nur heute|ausverkauf"
    r"|stark reduziert|sonderpreis|gratis verzending|aanbieding|uitverkoop",
    r"livraison (?:gratuite|offerte|rapide)|offre spéciale|meilleur(?:e vente| prix)|port offert|soldes|prix cassé",
    r"envío (?:gratis|gratuito|rápido)|envio (?:gratis|grátis)|más vendido|oferta especial|rebajas|precio especial",
    r"frete (?:grátis|gratis)|mais vendido|promoção|pronta entrega|oferta imperdível",
    r"spedizione (?:gratuita|gratis|veloce)|offerta speciale|più venduto|saldi",
    # Polish, Czech, Slovak, Russian, Turkish
    r"darmowa (?:dostawa|wysyłka)|wysyłka gratis|wyprzedaż|promocja|doprava (?:zdarma|zadarmo)|výprodej|akční cena",
    r"бесплатная доставка|распродажа|хит продаж|лучшая цена|ücretsiz kargo|kargo bedava|büyük indirim",
    # Indonesian, Vietnamese, Thai, Arabic, Hindi
    r"(?:gratis|bebas|free) ongkir|bisa cod|termurah|terlaris|harga promo|miễn phí vận chuyển|khuyến mãi|giảm giá",
    r"ส่งฟรี|พร้อมส่ง|ลดราคา|โปรโมชั่น|شحن مجاني|توصيل مجاني|عرض خاص|मुफ़्त शिपिंग|मुफ्त डिलीवरी",
    # Chinese, Japanese, Korean
    r"包邮|包郵|免运费?|免運費?|热卖|熱賣|热销|熱銷|促销|促銷|特价|特價|限时(?:特价|优惠|秒杀)?|限時(?:特價|優惠)?|现货|現貨"
    r"|爆款|清仓|清倉|秒杀|官方旗舰店|旗舰店|满\d+减\d+|\d(?:\.\d)?折|买一送一|買一送一|包税|新品上市",
    r"送料(?:無料|込み?)|ポイント\d+倍|期間限定(?:セール|価格)?|(?:タイム)?セール|半額|即納|あす楽(?:対応)?|在庫あり"
    r"|最大\d+%(?:off|オフ)|\d+%(?:off|オフ)|メール便(?:対応|可|送料無料)?|クーポン(?:利用)?(?:で\d+円)?|楽天(?:ランキング)?\d+位",
    r"무료 ?배송|당일 ?(?:발송|배송)|특가|할인|세일|사은품(?: 증정)?|이벤트|오늘출발",
)
# Words that may also be the product, as in "Pepper Sauce (Hot)": promotions only where they fill a bracket that a
# shop's own titles hardly use.
BRACKET_WORDS = (
    r"sale|hot|deals?|promo(?:tion)?s?|discount|clearance|offer|bargain|gift|cod|wow|cheap|wholesale|original|authentic",
    r"angebot|aktion|rabatt|reduziert|promotions?|ofertas?|descuento|desconto|offerta|sconto|akce|sleva|okazja",
    r"скидка|акция|indirim|kampanya|murah|ready|خصم|正品|新品|官方|公式|正規品|정품|신상",
)
FILL = r"[\s!¡?.,:;&+/|*~•·-]*+"
# Nothing is given back once it matched, so that a title of a hundred promotions is read once, not in every grouping.
PROMOTION = re.compile(f"{FILL}(?:(?>{'|'.join(PHRASES)}){FILL})++", re.I)
BRACKETED_PROMOTION = re.compile(f"{FILL}(?:(?>{'|'.join(PHRASES + BRACKET_WORDS)}){FILL})++", re.I)
ROUND_BRACKET = re.compile(r"\(([^()]{1,80})\)")
OTHER_BRACKETS = re.compile(
    r"\[([^\[\]]{1,80})\]|【([^【】]{1,80})】|\{([^{}]{1,80})\}|「([^「」]{1,80})」|〔([^〔〕]{1,80})〕"
    r"|《([^《》]{1,80})》|<([^<>]{1,80})>|\*+([^*]{1,80})\*+|~+([^~]{1,80})~+|(?<!!)!{2,}([^!]{1,80})!{2,}"
)
SEGMENT_MARKS = re.compile(rf"\s+[-–—|/•·]+\s+|\s*\|+\s*|(?<=\w)!+\s+|\s*(?:{EMOJI.pattern})\s*")
# Scripts that put no blanks between words: each character counts as one.
SIGNS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
WORDS = re.compile(f"[{SIGNS}]|(?:(?![{SIGNS}])[^\\W_])+")


@dataclasses.dataclass(frozen=True)
class TextCleaning:
    """Which rules clean a title or a description; all of them False and `min_words` 0 leaves texts alone.

    Of the other fields and attributes, `html` alone.

    Args:
      html: markup and character references become the text they show.
      nfkc: Unicode normal form NFKC; what is not shown (soft hyphens, direction marks, trademark signs) goes.
      links: URLs, e-mail addresses and telephone numbers go.
      promotions: brackets, and ends of a title, that hold nothing but a seller's promotion go.
      emoji: emoji and pictorial symbols go.
      punctuation: repeated marks are kept once, ornaments and empty brackets go.
      spaces: runs of white space become one blank, none at either end.
      min_words: a title of fewer word tokens is no text; see `enough_words`.
    """

    html: bool = True
    nfkc: bool = True
    links: bool = True
    promotions: bool = True
    emoji: bool = True
    punctuation: bool = True
    spaces: bool = True
    min_words: int = 2


def clean_text(text: str, cleaning: TextCleaning) -> tuple[str, tuple[str, ...]]:
    """A text without its noise, and the names of the rules that changed it, in the order of `RULES`."""
    changed = []
    for name, rule in RULES:
        if getattr(cleaning, name):
            cleaned = rule(text)
            if cleaned != text:
                changed.append(name)
                text = cleaned
    return text, tuple(changed)


def without_markup(value: str | list[str]) -> str | list[str]:
    """A value of one line, or each of a list, with its markup and character references as the text they show.

    Of a list, what shows nothing is left out.
    """
    return [*filter(None, map(without_markup, value))] if isinstance(value, list) else _spaces(_html(value))


def _html(text: str) -> str:
    if "<" not in text and "&" not in text:
        return text
    for _ in range(2):  # feeds escape markup twice
        text = ENTITIES.sub(lambda entity: html.unescape(entity[0]), text)
        if "<" in text:
            text = TAGS.sub(" ", INLINE_TAGS.sub("", UNSEEN_MARKUP.sub(" ", text)))
    return text


def _nfkc(text: str) -> str:
    if text.isascii():
        return text
    text = FRACTIONS.sub(" ", NOT_SHOWN.sub("", text))
    return unicodedata.normalize("NFKC", text).replace("\u2044", "/")


def _links(text: str) -> str:
    return _without(LINKS, text) if HAS_LINK.search(text) else text


def _emoji(text: str) -> str:
    return text if text.isascii() else _without(EMOJI, text)


def _punctuation(text: str) -> str:
    text = REPEATED.sub(lambda run: run[0][0], _without(ORNAMENTS, text))
    return _without(EMPTY_BRACKETS, text)


def _promotions(text: str) -> str:
    if "(" in text:
        text = ROUND_BRACKET.sub(lambda found: " " if PROMOTION.fullmatch(found[1]) else found[0], text)
    text = OTHER_BRACKETS.sub(
        lambda found: " " if BRACKETED_PROMOTION.fullmatch(found[found.lastindex]) else found[0], text
    )
    marks = list(SEGMENT_MARKS.finditer(text))
    segments = list(
        zip([0, *(mark.end() for mark in marks)], [*(mark.start() for mark in marks), len(text)], strict=True)
    )
    first, last = 0, len(marks)
    for place, (start, end) in enumerate(segments):
        if PROMOTION.fullmatch(text, start, end):
            first = place + 1
        elif start < end:
            break
    for place, (start, end) in reversed(list(enumerate(segments))):
        if PROMOTION.fullmatch(text, start, end):
            last = place - 1
        elif start < end:
            break
    # A title that is all promotion stays: there is nothing else to call the product.
    return text[segments[first][0] : segments[last][1]] if first <= last and (first, last) != (0, len(marks)) else text


def _spaces(text: str) -> str:
    return " ".join(text.split())


def _without(pattern: re.Pattern, text: str) -> str:
    """The text without what the pattern finds; where it stood between two words, a blank keeps them apart."""
    return pattern.sub(" ", text) if pattern.search(text) else text


# Promotions before emoji and punctuation, since these mark where a promotion ends.
RULES = (
    ("html", _html),
    ("nfkc", _nfkc),
    ("links", _links),
    ("promotions", _promotions),
    ("emoji", _emoji),
    ("punctuation", _punctuation),
    ("spaces", _spaces),
)


def enough_words(title: str, cleaning: TextCleaning) -> bool:
    """Whether a title has at least `min_words` word tokens: runs of letters and digits, or single CJK or Thai signs."""
    if cleaning.min_words <= 0:
        return True
    found = WORDS.finditer(title)
    return all(next(found, None) is not None for _ in range(cleaning.min_words))
