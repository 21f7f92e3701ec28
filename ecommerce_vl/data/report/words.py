"""What the reasons mean, in the words of those who own the feed. A reason that is not here is shown by its name."""

from __future__ import annotations

MEANINGS = {
    "invalid_json": "the line is no JSON object",
    "invalid_encoding": "the line is not in the encoding of the file",
    "invalid_xml": "the item is no valid XML",
    "invalid_value": "a value cannot be read as its type",
    "wrong_number_of_columns": "more or fewer cells than the header has",
    "sample_too_large": "one sample of the archive is larger than the limit",
    "missing_handle": "a Shopify line without a handle",
    "empty_line": "a Shopify line without a variant and a picture",
    "missing_id": "no id, so nothing could refer to it",
    "id_too_long": "the id is longer than the limit",
    "unknown_split": "the split column holds another word than train, validation or test",
    "duplicate_id": "an earlier row has this id; the first one is kept",
    "no_image_and_no_title": "neither a picture nor a title",
    "placeholder_image": "the picture is a banner, a logo or “no image”, by its frequency",
    "exact_duplicate": "equal picture and title, and nothing that tells the listings apart",
    "near_duplicate": "nearly equal picture and title, and nothing that tells the listings apart",
    "catalog_id": "equal catalog id",
    "gtin": "equal valid gtin, and brand or title agree",
    "brand_mpn": "equal brand and part number",
    "item_group": "one item group",
    "equal_title": "equal titles of five words or more",
    "equal_picture": "equal pictures in one category",
    "not_an_image": "the bytes are no picture",
    "truncated_image": "the picture ends early or is damaged",
    "image_too_large": "more pixels than the limit",
    "image_too_small": "a side below the limit: too small to show a product",
    "image_extreme_aspect": "a strip, such as a banner",
    "image_blank": "one colour, nothing to see",
    "missing_image_file": "the feed names a picture that is not there",
    "image_outside_feed": "the path leads out of the feed’s folder",
    "image_not_fetched": "a link, and fetching is off",
    "image_host_forbidden": "the host is not among the allowed ones",
    "image_address_forbidden": "the host lies in a private network",
    "image_fetch_failed": "the server did not give the picture",
    "image_http_status": "the server refused the picture",
    "image_is_a_page": "the link leads to a page, not to a picture",
    "image_redirects": "the link is redirected too often",
    "image_timeout": "the server is too slow",
    "image_too_many_bytes": "the file is larger than the limit",
    "images_cut": "more pictures than are kept",
    "title_without_words": "nothing was left of the title after cleaning",
    "adult_by_seller": "the feed does not say, and the seller is one of adult_sellers",
    "title_cut": "the title was longer than the limit",
    "description_cut": "the description was longer than the limit",
    "attribute_cut": "an attribute was longer than the limit",
    "attributes_cut": "more attributes than are kept",
}
RULES = {
    "html": "markup and character references",
    "nfkc": "one Unicode form",
    "links": "URLs, e-mail addresses, telephone numbers",
    "promotions": "promotion phrases",
    "emoji": "emoji",
    "punctuation": "repeated punctuation",
    "spaces": "repeated spaces",
}
RELATIONS = {
    "duplicate_listing": "a copy within one seller",
    "same_product": "the same product",
    "variant": "a variant, never taken for the same product",
}


def meaning(reason: str) -> str:
    """What a reason means, "" if it has no words here."""
    return MEANINGS.get(reason, "")


def number(value: float) -> str:
    """12,345; of what is no whole number, as many digits as say something."""
    if value == int(value):
        return f"{int(value):,}"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value >= 1e-3 else "below 0.001"


def counted(count: int, noun: str) -> str:
    """ "1 gtin", "2 gtins"."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def percent(part: float, whole: float) -> str:
    """A share for people: none, few and nearly all are never rounded to what they are not."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "below 0.1 %"
    if 99 < share < 100:
        return "over 99 %"
    return f"{share:.1f} %" if share % 1 and share < 10 else f"{share:.0f} %"
