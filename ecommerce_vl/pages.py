"""The frame of every page that the program writes: one HTML file that fetches nothing and runs nothing."""

from __future__ import annotations

import base64
from pathlib import Path

import jinja2


def environment(folder: Path) -> jinja2.Environment:
    """Templates of a room, which extend `base.html`; all text in them is escaped, a missing name is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(jpeg: bytes | None) -> str:
    """A JPEG as the source of an <img>; "" for none."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() if jpeg else ""
