"""Files that appear whole or not at all, their digests, and files of one JSON object a line.

Invariant: a file written here has its own name only once it is complete, so nothing that a killed process leaves is
ever taken for whole. Until then it is `.NAME.PID.partial` beside it, so processes that write the same file do not meet.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Gives the path to write to; what lies there becomes `file` if the block ends without an error."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def fresh_folder(folder: Path) -> None:
    """Makes a folder for whole files, and removes from it what killed processes left half written."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.partial"):
        left.unlink()


def write_text(file: Path, text: str) -> None:
    """Writes text in UTF-8."""
    with whole_file(file) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(file: Path, content: Any) -> None:
    """Writes indented JSON with a newline at its end."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json_lines(file: Path) -> list[Any]:
    """The rows of a file that grows by a line of JSON a row; [] where there is none, without a line that a kill cut."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file, plain or `.gz`, that are not empty, with their numbers from 1.

    Errors: OSError, EOFError or UnicodeDecodeError where it cannot be read.
    """
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line


def sha256(file: Path) -> str:
    """SHA-256 of a file, hexadecimal; "" if it does not exist, which equals no digest."""
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
