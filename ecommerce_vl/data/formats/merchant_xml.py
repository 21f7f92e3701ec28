"""Merchant Center XML: RSS 2.0 with `item` and Atom with `entry`, streamed in memory that does not grow.

The file is cut at its item tags and every item parsed by itself, so that a broken one costs only itself. Invariant:
no entity is ever declared or fetched; a file that tries is refused.
Source: Merchant Center's feed specification, RSS 2.0, Atom 1.0.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from ecommerce_vl.data.formats.files import open_file
from ecommerce_vl.data.formats.row import BadRow, Row
from ecommerce_vl.data.values import LONE_SURROGATES
from ecommerce_vl.errors import UserError

GOOGLE = "base.google.com/ns/1.0"  # "http://" before it, in some feeds "https://"
TOKEN = re.compile(r"<!\[CDATA\[|<!--|<(?P<end>/?)(?:atom:)?(?P<tag>item|entry)(?=[\s/>])[^>]*>")
DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
CHARACTERS_PER_READ = 1 << 16
MAX_ITEM = 1 << 24  # characters of one item, and of all before the first
MAX_DEPTH = 16  # of elements inside an item
PROSE = frozenset(("title", "description", "summary", "content"))  # may hold markup, of which the text counts
DESCRIPTIONS = ("summary", "content")  # what Atom calls a description


def read(path: str) -> Iterator[Row]:
    """The items of a feed, column name without "g:" -> text, list of texts, or mapping.

    Errors: UserError if the file is no XML or declares entities; EOFError if its end is missing.
    """
    with io.TextIOWrapper(open_file(path), encoding=_encoding(path), errors="surrogateescape", newline="") as stream:
        root, namespaces = "", {}
        for kind, text in _pieces(stream, path):
            if kind == "before":
                root, namespaces = _prolog(text, path)
            elif kind == "item":
                yield _row(text, namespaces)
            elif kind == "broken":
                yield BadRow("invalid_xml", text)
            elif not re.search(rf"</{re.escape(root)}\s*>", text):
                raise EOFError(f"the end tag of <{root}> is missing")


def count_rows(path: str) -> int | None:
    return None  # nothing says without reading it all


def _encoding(path: str) -> str:
    with open_file(path) as stream:
        start = stream.read(200)
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return encoding
    declared = DECLARED.search(start)
    encoding = declared[1].decode() if declared else "utf-8"
    try:
        "".encode(encoding)
    except (LookupError, UnicodeError) as error:
        raise UserError(
            f"--feed: {path} declares the encoding {encoding!r}, which is not known; write it as UTF-8"
        ) from error
    return encoding


def _pieces(stream: io.TextIOBase, path: str) -> Iterator[tuple[str, str]]:
    """("before", what lies before the first item), ("item", as written) or ("broken", why), ("after", the end).

    Errors: UserError if there is no item in the first `MAX_ITEM` characters.
    """
    text, position, start, tag = "", 0, None, None
    while True:
        match, position = _next_tag(text, position)
        if match is None:
            # Of what has been read, an item that is open is kept, and enough to see how the file ends.
            first = start if start is not None else max(0, position - CHARACTERS_PER_READ) if tag else 0
            text, position, start = text[first:], position - first, None if start is None else 0
            if len(text) > MAX_ITEM:
                if not tag:
                    raise UserError(
                        f"--feed: {path} has no <item> or <entry> in its first {MAX_ITEM} characters; "
                        "expected Merchant Center RSS or Atom"
                    )
                yield "broken", f"more than {MAX_ITEM} characters: {text[:60]!r}"
                text, position, start = "", 0, None
            chunk = stream.read(CHARACTERS_PER_READ)
            if not chunk:
                break
            text += chunk
        elif match["tag"] == (tag or match["tag"]):  # else an <item> inside of an <entry>
            if not match["end"]:
                if not tag:
                    yield "before", text[: match.start()]
                elif start is not None:
                    yield "broken", f"not closed: {text[start : start + 60]!r}"
                tag, start = match["tag"], match.start()
            if start is not None and (match["end"] or match[0].endswith("/>")):
                yield "item", text[start:position]
                start = None
    if not tag:
        yield "before", text
    if start is not None:
        yield "broken", f"not closed: {text[start : start + 60]!r}"
    yield "after", text


def _next_tag(text: str, position: int) -> tuple[re.Match | None, int]:
    """The next tag of an item, outside of comments and CDATA, and where to search on once more is read."""
    while match := TOKEN.search(text, position):
        if match["tag"]:
            return match, match.end()
        close = "]]>" if match[0].startswith("<![") else "-->"
        end = text.find(close, match.end())
        if end < 0:
            return None, match.start()
        position = end + len(close)
    return None, max(position, text.rfind("<"))  # the last tag may go on in what is not read yet


def _prolog(text: str, path: str) -> tuple[str, dict[str, str]]:
    """(name of the root element, prefix -> namespace) of what lies before the first item, or of a feed without items.

    Errors: UserError if it is no XML, or declares an entity.
    """
    found: list[str] = []
    namespaces: dict[str, str] = {}

    def entity(*_: Any) -> None:
        raise UserError(f"--feed: {path} declares XML entities, which can grow without end; remove its DOCTYPE")

    parser = expat.ParserCreate(namespace_separator=None)
    parser.EntityDeclHandler = entity
    parser.StartElementHandler = lambda name, attributes: (
        found.append(name),
        namespaces.update({key: value for key, value in attributes.items() if key.partition(":")[0] == "xmlns"}),
    )
    try:
        parser.Parse(text.lstrip("\ufeff").encode("utf-8", "replace").decode(), False)
    except expat.ExpatError as error:
        raise UserError(f"--feed: {path} is no XML: {error}; expected Merchant Center RSS or Atom") from error
    if not found:
        raise UserError(f"--feed: {path} has no XML element; expected Merchant Center RSS or Atom")
    return found[0], namespaces


def _row(text: str, namespaces: dict[str, str]) -> Row:
    if LONE_SURROGATES.search(text):
        return BadRow("invalid_encoding", f"not of the encoding that the file declares: {ascii(text)[:60]}")
    try:
        return _columns(_parse(text, namespaces))
    except (expat.ExpatError, ValueError) as error:
        return BadRow("invalid_xml", f"{error}: {text[:60]!r}")


class _Element:
    """One element; `content` holds its texts and elements in order."""

    def __init__(self, name: str):
        namespace, _, self.name = name.rpartition(" ")
        self.is_google = namespace.endswith(GOOGLE)
        self.href = ""
        self.content: list[str | _Element] = []

    @property
    def children(self) -> list[_Element]:
        return [part for part in self.content if isinstance(part, _Element)]

    def prose(self) -> str:
        return "".join(part if isinstance(part, str) else part.prose() for part in self.content)

    def value(self) -> Any:
        """Text, or for elements inside, name -> value; several of one name are a list."""
        if not self.children or self.name in PROSE:
            return self.prose().strip() or self.href
        found: dict[str, Any] = {}
        for child in self.children:
            found.setdefault(child.name, []).append(child.value())
        own = "".join(part for part in self.content if isinstance(part, str)).strip()
        return {name: _one(values) for name, values in found.items()} | ({"text": own} if own else {})


def _one(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _parse(text: str, namespaces: dict[str, str]) -> _Element:
    """The element tree of one item.

    Errors: ExpatError; ValueError where it is too deep.
    """
    top = _Element("")
    stack = [top]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > MAX_DEPTH:
            raise ValueError(f"elements more than {MAX_DEPTH} deep")
        element = _Element(name)
        element.href = attributes.get("href", "")
        stack[-1].content.append(element)
        stack.append(element)

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: stack.pop()
    parser.CharacterDataHandler = lambda data: stack[-1].content.append(data)
    declared = "".join(f" {name}={quoteattr(value)}" for name, value in namespaces.items())
    parser.Parse(f"<feed{declared}>{text}</feed>", True)
    return top.children[0].children[0]


def _columns(item: _Element) -> dict[str, Any]:
    """The columns of an item; Google's own win over RSS's and Atom's of the same name, kept where they differ."""
    found: dict[str, list[Any]] = {}
    for child in sorted(item.children, key=lambda child: not child.is_google):  # stable
        value = child.value()
        if child.is_google or child.name not in found:
            found.setdefault(child.name, []).append(value)
        elif value not in found[child.name]:
            found.setdefault(f"feed_{child.name}", []).append(value)
    for name in DESCRIPTIONS:
        if name in found and "description" not in found:
            found["description"] = found.pop(name)
    # A list of names would be one path; here each element is a path of its own.
    if len(paths := found.get("product_type", [])) > 1:
        found |= {"product_type": paths[:1], "other_product_type": paths[1:]}
    return {name: _one(values) for name, values in found.items()}
