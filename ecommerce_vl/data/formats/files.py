"""Files by path: on this machine, or in a bucket through etils.epath and fsspec; `.gz` is unpacked on the way.

A bucket needs the extra of its service: `ecommerce_vl[gcs]` or `ecommerce_vl[s3]`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from etils import epath

from ecommerce_vl.errors import UserError

REMOTE = ("gs://", "s3://")
EXTRAS = {"gs": "gcs", "s3": "s3"}
BYTES_PER_READ = 1 << 20


def is_remote(path: str) -> bool:
    return path.startswith(REMOTE)


def open_file(path: str) -> BinaryIO:
    """The bytes of a file, unpacked if its name ends in .gz.

    Errors: OSError; UserError if a bucket cannot be reached.
    """
    if not is_remote(path):
        return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")
    with remote_errors(path):
        stream = epath.Path(path).open("rb")
        return gzip.GzipFile(fileobj=stream) if path.endswith(".gz") else stream


@contextlib.contextmanager
def remote_errors(path: str) -> Iterator[None]:
    """Turns what a service's client raises, each its own kinds, into one sentence.

    Errors: UserError.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        extra = EXTRAS.get(path.partition("://")[0], "gcs")
        found = str(error).partition("\n")[0].rstrip(".") or "no such file"
        raise UserError(
            f"--feed: {path} cannot be read: {type(error).__name__}: {found}; expected a file that these credentials "
            f"may read. Check the path and the credentials, and that ecommerce_vl[{extra}] is installed."
        ) from error


def count_lines(path: str) -> int | None:
    """Lines of a file that can be read fast; None for one in a bucket or packed."""
    if is_remote(path) or path.endswith(".gz"):
        return None
    lines, last = 0, b"\n"
    with open(path, "rb") as stream:
        while chunk := stream.read(BYTES_PER_READ):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n")


def content_digest(path: str) -> str:
    """SHA-256 of a file's content; in a bucket, of its size and what the service says of its version.

    Errors: as `open_file`.
    """
    if not is_remote(path):
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    import fsspec

    with remote_errors(path):
        filesystem = fsspec.filesystem(path.partition("://")[0])
        filesystem.invalidate_cache(parent(path))  # it would answer from an earlier listing
        info = filesystem.info(path)
    versions = ("size", "ETag", "etag", "md5Hash", "crc32c", "generation", "LastModified", "mtime", "updated")
    stamp = [(name, str(info[name])) for name in versions if name in info]
    return hashlib.sha256(repr([path, stamp]).encode()).hexdigest()


def parent(path: str) -> str:
    """The folder or bucket prefix that a file lies in."""
    return path.rsplit("/", 1)[0] if is_remote(path) else str(Path(path).parent)
