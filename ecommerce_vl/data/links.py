"""Picture links: the bytes behind a path, a member of an archive, an object of a bucket, or a URL that may be fetched.

A feed is written by strangers, so a link reaches only what the feed's owner meant. Invariants: no path leaves the
feed's own folder or bucket; nothing is fetched unless the policy says so, and then only from its hosts, checked again
at every redirect, at the very address that was checked; size and time are limited while reading. A link that fails is
an `ImageDefect` with a reason, never another error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import ipaddress
import posixpath
import re
import socket
import tarfile
import threading
import time
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import urllib3
from etils import epath

from ecommerce_vl.data.formats.files import REMOTE, is_remote
from ecommerce_vl.data.images import ImageDefect

ARCHIVES = (".zip", ".tar")
ARCHIVE_END = re.compile(r"\.(?:zip|tar)(?=[/#])", re.IGNORECASE)
BYTES_PER_READ = 1 << 16
SHOWN = 200  # characters of a link in a detail
REDIRECTS = (301, 302, 303, 307, 308)
# Told as they are: some shops answer a client without a name with a page.
HEADERS = {"User-Agent": "ecommerce_vl", "Accept": "image/*", "Accept-Encoding": "identity", "Connection": "close"}


@dataclasses.dataclass(frozen=True)
class LinkPolicy:
    """What a link may reach beyond the feed's own folder.

    Args:
      fetch: whether http, https and other buckets are read at all.
      allowed_hosts: "img.example.com", or "*.example.com" for all below it; a bucket by its name. Only an exact name
        may lead to a private address.
      max_bytes: of one picture, wherever it lies.
      timeout_s: of one link, with all redirects, from the first connection to the last byte.
      max_redirects: of one link.
    """

    fetch: bool = False
    allowed_hosts: tuple[str, ...] = ()
    max_bytes: int = 20_000_000
    timeout_s: float = 10.0
    max_redirects: int = 3


def read_link(link: str | bytes, *, root: str, policy: LinkPolicy) -> bytes:
    """The encoded picture that a link stands for.

    Args:
      link: the bytes themselves; a path relative to `root`, also into an archive ("photos.zip/a.jpg" or
        "photos.zip#a.jpg"); "gs://", "s3://", "http://" or "https://".
      root: folder, bucket prefix or archive of the feed; "" where it has none.

    Errors: ImageDefect, for paths and archives with `image_outside_feed` or `missing_image_file`, for what is not
    allowed with `image_not_fetched`, `image_host_forbidden` or `image_address_forbidden`, for the rest of the web with
    `image_redirects`, `image_http_status`, `image_is_a_page`, `image_timeout` or `image_fetch_failed`; anywhere with
    `image_too_many_bytes`.
    """
    if isinstance(link, bytes):
        if len(link) > policy.max_bytes:
            raise _too_large("the picture in the row", len(link), policy)
        return link
    if link.lower().startswith(("http://", "https://")):
        return _fetch(link, policy)
    if link.startswith(REMOTE):
        return _read_object(_object_path(link, root, policy), link, policy)
    if "://" in link:
        raise ImageDefect("image_not_fetched", f"{link[:SHOWN]} is of no kind that is read; use a path, http or https")
    if is_remote(root):
        if link.startswith("/") or ".." in link.split("/") or "\0" in link:
            raise ImageDefect("image_outside_feed", f"{link[:SHOWN]} leaves {root}")
        return _read_object(f"{root.rstrip('/')}/{posixpath.normpath(link)}", link, policy)
    return _read_path(link, root, policy)


def _too_large(what: str, size: int, policy: LinkPolicy) -> ImageDefect:
    return ImageDefect("image_too_many_bytes", f"{what[:SHOWN]} has {size} bytes or more, limit {policy.max_bytes}")


# Paths and archives


def _read_path(link: str, root: str, policy: LinkPolicy) -> bytes:
    if not root:
        raise ImageDefect("missing_image_file", f"{link[:SHOWN]}: this feed has no folder that a path could lie in")
    base = Path(root)
    try:
        if base.is_file() and root.lower().endswith(ARCHIVES):
            return _read_member(base, link, link, policy)
        path = (base / link).resolve()
        if "%" in link and not path.exists():
            path = (base / urllib.parse.unquote(link)).resolve()
        if not path.is_relative_to(base.resolve()):
            raise ImageDefect("image_outside_feed", f"{link[:SHOWN]} leaves {root}")
        archive = _archive_of(path, base.resolve())
        if archive:
            return _read_member(*archive, link, policy)
        if not path.is_file():  # a pipe or a device would be read forever
            raise ImageDefect("missing_image_file", f"{link[:SHOWN]}: no such file")
        with open(path, "rb") as stream:
            return _limited(stream, link, policy)
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a NUL in it; RuntimeError: links in a circle
        raise ImageDefect("missing_image_file", f"{link[:SHOWN]}: {type(error).__name__}") from error


def _archive_of(path: Path, base: Path) -> tuple[Path, str] | None:
    """(archive, member) where a path leads into a file of `ARCHIVES`, by "/" or "#"; None where it does not."""
    text = str(path)
    for match in ARCHIVE_END.finditer(text, len(str(base))):
        archive = Path(text[: match.end()])
        if archive.is_file() and archive.resolve().is_relative_to(base):  # "#" hides a symbolic link from `resolve`
            return archive, text[match.end() + 1 :]
    return None


def _read_member(archive: Path, member: str, link: str, policy: LinkPolicy) -> bytes:
    """The bytes of a member, found by its exact name; no member is a way out of the archive, since none is unpacked."""
    stat = archive.stat()
    try:
        opened = _archive(str(archive), stat.st_mtime_ns, stat.st_size)
        place = opened.find(member) or opened.find(urllib.parse.unquote(member))
        if place is None:
            raise ImageDefect("missing_image_file", f"{link[:SHOWN]}: {archive.name} has no such member")
        with opened.open(place) as stream:
            return _limited(stream, link, policy)
    except ImageDefect:
        raise
    except Exception as error:  # each way of packing raises its own kinds
        raise ImageDefect("missing_image_file", f"{link[:SHOWN]}: {archive.name} is damaged: {error}") from error


class _Archive:
    """The members of an archive by name, read at random; of a tar, its files are cut out by their place.

    Args:
      path: of a zip, or of a tar that is not packed.
    """

    def __init__(self, path: str):
        self._path = path
        self._zip = zipfile.ZipFile(path) if path.lower().endswith(".zip") else None
        if self._zip:
            self._places: dict[str, Any] = {info.filename: info for info in self._zip.infolist() if not info.is_dir()}
        else:
            with tarfile.open(path, "r:") as tar:
                self._places = {info.name.removeprefix("./"): info for info in tar if info.isreg()}

    def find(self, member: str) -> Any:
        return self._places.get(member.removeprefix("./"))

    @contextlib.contextmanager
    def open(self, place: Any) -> Iterator[Any]:
        if self._zip:
            with self._zip.open(place) as stream:
                yield stream
        else:
            with open(self._path, "rb") as stream:
                stream.seek(place.offset_data)
                yield _Part(stream, place.size)


class _Part:
    def __init__(self, stream: Any, size: int):
        self._stream, self._left = stream, size

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data


@functools.lru_cache(maxsize=8)
def _archive(path: str, mtime: int, size: int) -> _Archive:
    """Opened once a process, as long as the file is the same: the index of a large one takes seconds to read."""
    return _Archive(path)


def _limited(stream: Any, link: str, policy: LinkPolicy) -> bytes:
    data = stream.read(policy.max_bytes + 1)
    if len(data) > policy.max_bytes:
        raise _too_large(link, len(data), policy)
    return data


# Buckets


def _object_path(link: str, root: str, policy: LinkPolicy) -> str:
    """The link itself, if it is in the feed's own bucket or in one that the policy allows."""
    own = is_remote(root) and _bucket(link) == _bucket(root)
    if not own and not policy.fetch:
        raise ImageDefect("image_not_fetched", f"{link[:SHOWN]} is in another bucket; set images.fetch to read it")
    if not own and _bucket(link)[1] not in policy.allowed_hosts:
        raise ImageDefect("image_host_forbidden", f"{_bucket(link)[1]!r} is not in images.allowed_hosts")
    if ".." in link.split("/") or "\0" in link:
        raise ImageDefect("image_outside_feed", f"{link[:SHOWN]} leaves its bucket")
    return link


def _bucket(link: str) -> tuple[str, str]:
    scheme, _, rest = link.partition("://")
    return scheme, rest.partition("/")[0]


def _read_object(path: str, link: str, policy: LinkPolicy) -> bytes:
    try:
        with epath.Path(path).open("rb") as stream:
            return _limited(stream, link, policy)
    except ImageDefect:
        raise
    except FileNotFoundError as error:
        raise ImageDefect("missing_image_file", f"{path[:SHOWN]}: no such object") from error
    except Exception as error:  # the client of each service raises its own kinds
        raise ImageDefect("image_fetch_failed", f"{path[:SHOWN]}: {type(error).__name__}") from error


# The web


def _fetch(link: str, policy: LinkPolicy) -> bytes:
    if not policy.fetch:
        raise ImageDefect("image_not_fetched", f"{link[:SHOWN]} is remote; set images.fetch, or download it first")
    deadline = time.monotonic() + policy.timeout_s
    url = link
    for _ in range(policy.max_redirects + 1):
        answer = _get(url, deadline, policy)
        if isinstance(answer, bytes):
            return answer
        url = answer
    raise ImageDefect("image_redirects", f"{link[:SHOWN]} redirects more than {policy.max_redirects} times")


def _get(url: str, deadline: float, policy: LinkPolicy) -> bytes | str:
    """One request: the picture, or the URL of a redirect."""
    try:
        parsed = urllib3.util.parse_url(url)
        host = (parsed.host or "").rstrip(".").lower()
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise ImageDefect("image_fetch_failed", f"{url[:SHOWN]!r} is no URL") from error
    if parsed.scheme not in ("http", "https") or not host:
        raise ImageDefect("image_not_fetched", f"{url[:SHOWN]!r}: only http and https are fetched")
    address = _checked_address(host, parsed.port or {"http": 80, "https": 443}[parsed.scheme], policy)
    left = deadline - time.monotonic()
    if left <= 0:
        raise _late(url, policy)
    connection = _connection(parsed.scheme, address, host, left)
    # The timeout of a socket is for one read, and a server that sends a byte now and then would never reach it.
    ended = threading.Event()
    watch = threading.Timer(left, _end, (connection, ended))
    watch.daemon = True
    watch.start()
    try:
        connection.request(
            "GET",
            parsed.request_uri,
            headers={**HEADERS, "Host": _authority(host, parsed.port)},
            preload_content=False,
            decode_content=False,
        )
        return _answer(connection.getresponse(), url, deadline, policy)
    except ImageDefect:
        raise
    except Exception as error:  # of sockets, TLS, HTTP and its parser
        if ended.is_set() or time.monotonic() >= deadline or isinstance(error, TimeoutError):
            raise _late(url, policy) from error
        raise ImageDefect("image_fetch_failed", f"{url[:SHOWN]}: {type(error).__name__}") from error
    finally:
        watch.cancel()
        connection.close()


def _answer(response: Any, url: str, deadline: float, policy: LinkPolicy) -> bytes | str:
    if response.status in REDIRECTS and response.headers.get("Location"):
        return urllib.parse.urljoin(url, response.headers["Location"])
    if response.status != 200:
        raise ImageDefect("image_http_status", f"{url[:SHOWN]} answers {response.status}")
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise ImageDefect("image_is_a_page", f"{url[:SHOWN]} is {kind}")
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(length) < 20 and int(length) > policy.max_bytes:
        raise _too_large(url, int(length), policy)
    data = bytearray()
    while chunk := response.read1(BYTES_PER_READ):
        data += chunk
        if len(data) > policy.max_bytes:
            raise _too_large(url, len(data), policy)
        if time.monotonic() > deadline:
            break
    if time.monotonic() > deadline:  # also where `_end` has cut it short, which looks like its end
        raise _late(url, policy)
    if length.isdecimal() and len(length) < 20 and len(data) != int(length):
        raise ImageDefect("image_fetch_failed", f"{url[:SHOWN]} ends after {len(data)} of {length} bytes")
    if data[:64].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ImageDefect("image_is_a_page", f"{url[:SHOWN]} is a page, whatever it says")
    return bytes(data)


def _checked_address(host: str, port: int, policy: LinkPolicy) -> tuple[str, int]:
    """The address to connect to; looked up once, so that no second answer of a name server goes unchecked."""
    allowed = [name.lower() for name in policy.allowed_hosts]
    exact = host in allowed
    below = any(name.startswith("*.") and host.endswith(name[1:]) for name in allowed)
    if not exact and not below:
        raise ImageDefect("image_host_forbidden", f"{host!r} is not in images.allowed_hosts")
    try:
        found = [entry[4][0] for entry in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise ImageDefect("image_fetch_failed", f"{host!r} has no address") from error
    if not exact and not all(_is_public(address) for address in found):
        raise ImageDefect("image_address_forbidden", f"{host!r} is at {found[0]}, which is not of the public net")
    return min(found, key=lambda address: ":" in address), port  # IPv4 first, which every machine can reach


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return parsed.is_global and not parsed.is_multicast


def _connection(scheme: str, address: tuple[str, int], host: str, timeout: float) -> Any:
    from urllib3.connection import HTTPConnection, HTTPSConnection

    if scheme == "http":
        return HTTPConnection(*address, timeout=timeout)
    # To the address that was checked; the certificate must be of the host that was named.
    return HTTPSConnection(*address, timeout=timeout, server_hostname=host, assert_hostname=host)


def _authority(host: str, port: int | None) -> str:
    return f"{host}:{port}" if port else host


def _end(connection: Any, ended: threading.Event) -> None:
    ended.set()
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _late(url: str, policy: LinkPolicy) -> ImageDefect:
    return ImageDefect("image_timeout", f"{url[:SHOWN]} takes longer than {policy.timeout_s:g} s")
