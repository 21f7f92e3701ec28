"""A link reaches what the feed's owner meant and nothing else; every failure has a reason."""

import contextlib
import dataclasses
import http.server
import io
import os
import socket
import tarfile
import threading
import time
import zipfile

import pytest

from ecommerce_vl.data import links
from ecommerce_vl.data.images import ImageDefect
from ecommerce_vl.data.links import LinkPolicy, read_link

PICTURE = b"\xff\xd8 a picture"
HOST = "127.0.0.1"
OFFLINE = LinkPolicy()
POLICY = LinkPolicy(fetch=True, allowed_hosts=(HOST,), max_bytes=10_000, timeout_s=5, max_redirects=2)


def reason(link: str | bytes, *, root: str = "", policy: LinkPolicy = OFFLINE) -> str:
    with pytest.raises(ImageDefect) as caught:
        read_link(link, root=root, policy=policy)
    assert caught.value.detail
    return caught.value.reason


@pytest.fixture
def feed(tmp_path):
    """A feed's folder with pictures, beside files that are not the feed's."""
    folder = tmp_path / "feed"
    (folder / "images").mkdir(parents=True)
    for name in ("images/a.jpg", "images/two words.jpg", "images/per%20cent.jpg", "a#1.zip.jpg"):
        (folder / name).write_bytes(PICTURE)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    os.mkfifo(folder / "pipe.jpg")
    for target in (folder / "photos.zip", tmp_path / "secret.zip"):
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("sub/a.jpg", PICTURE)
            archive.writestr("../up.jpg", PICTURE)
            archive.writestr("bomb.jpg", bytes(10_000_000))
    (folder / "linked.zip").symlink_to(tmp_path / "secret.zip")
    with tarfile.open(folder / "photos.tar", "w") as archive:
        for name, data in (("./sub/a.jpg", PICTURE), ("b.jpg", PICTURE * 2)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.jpg")
        archive.addfile(link)
    (folder / "damaged.zip").write_bytes((folder / "photos.zip").read_bytes()[:-30])
    return folder


@pytest.mark.parametrize(
    "link",
    [
        *("images/a.jpg", "./images/../images/a.jpg", "images/two%20words.jpg", "images/per%20cent.jpg", "a#1.zip.jpg"),
        *("photos.zip/sub/a.jpg", "photos.zip#sub/a.jpg", "photos.tar/sub/a.jpg", "photos.tar#sub/a.jpg"),
    ],
)
def test_paths_and_members(feed, link):
    assert read_link(link, root=str(feed), policy=OFFLINE) == PICTURE
    assert read_link(str(feed / link), root=str(feed), policy=OFFLINE) == PICTURE


def test_bytes_and_archives_as_root(feed):
    assert read_link(PICTURE, root="", policy=OFFLINE) == PICTURE
    assert read_link("sub/a.jpg", root=str(feed / "photos.zip"), policy=OFFLINE) == PICTURE
    assert read_link("b.jpg", root=str(feed / "photos.tar"), policy=OFFLINE) == PICTURE * 2


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("../secret.jpg", "image_outside_feed"),
        ("images/../../secret.jpg", "image_outside_feed"),
        ("%2e%2e/secret.jpg", "image_outside_feed"),
        ("/etc/passwd", "image_outside_feed"),
        ("out.jpg", "image_outside_feed"),
        ("../secret.zip#sub/a.jpg", "image_outside_feed"),
        ("linked.zip/sub/a.jpg", "image_outside_feed"),
        ("linked.zip#sub/a.jpg", "missing_image_file"),
        ("circle.jpg", "missing_image_file"),
        ("pipe.jpg", "missing_image_file"),
        ("images", "missing_image_file"),
        ("none.jpg", "missing_image_file"),
        ("a\0.jpg", "missing_image_file"),
        ("x" * 5000, "missing_image_file"),
        ("photos.zip/none.jpg", "missing_image_file"),
        ("photos.tar#link.jpg", "missing_image_file"),
        ("damaged.zip/sub/a.jpg", "missing_image_file"),
        ("photos.zip/bomb.jpg", "image_too_many_bytes"),
        ("file:///etc/passwd", "image_not_fetched"),
        ("ftp://host/a.jpg", "image_not_fetched"),
        ("https://host/a.jpg", "image_not_fetched"),
        ("gs://bucket/a.jpg", "image_not_fetched"),
    ],
)
def test_links_that_are_refused(feed, link, expected):
    assert reason(link, root=str(feed), policy=dataclasses.replace(OFFLINE, max_bytes=1_000_000)) == expected


def test_paths_of_a_feed_without_a_folder_and_large_pictures(feed):
    assert reason("images/a.jpg") == "missing_image_file"
    small = LinkPolicy(max_bytes=len(PICTURE) - 1)
    for link in (PICTURE, "images/a.jpg", "photos.tar/sub/a.jpg"):
        assert reason(link, root=str(feed), policy=small) == "image_too_many_bytes"
        assert read_link(link, root=str(feed), policy=LinkPolicy(max_bytes=len(PICTURE))) == PICTURE


class Shop(http.server.BaseHTTPRequestHandler):
    """A web shop with every way in which a picture may not come."""

    seen: list = []  # noqa: RUF012  (of all requests, for the tests)

    def do_GET(self):
        self.seen.append((self.path, self.headers["Host"]))
        name, _, rest = self.path[1:].partition("/")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            getattr(self, name)(rest)

    def answer(self, status=200, data=b"", **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def picture(self, rest):
        self.answer(data=PICTURE, Content_Type="image/jpeg", Content_Length=str(len(PICTURE)))

    def redirect(self, rest):
        count, _, last = rest.partition("/")
        self.answer(302, Location=f"/redirect/{int(count) - 1}/{last}" if int(count) > 1 else last or "/picture/")

    def lost(self, rest):
        self.answer(302, Location="http://[/")

    def page(self, rest):
        self.answer(data=b"<html>", Content_Type="text/html; charset=utf-8")

    def hidden_page(self, rest):
        self.answer(data=b"\n <!DOCTYPE html><p>", Content_Type="image/jpeg")

    def missing(self, rest):
        self.answer(404)

    def declared_huge(self, rest):
        self.answer(data=b"x", Content_Length="99999999")

    def huge(self, rest):
        self.answer(data=b"x" * 1_000_000)

    def short(self, rest):
        self.answer(data=PICTURE, Content_Length="500")

    def silent(self, rest):
        time.sleep(2)

    def drip(self, rest):
        self.answer(data=PICTURE)
        for _ in range(20):
            time.sleep(0.1)
            self.wfile.write(b"x")
            self.wfile.flush()

    def slow_head(self, rest):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(20):
            time.sleep(0.1)
            self.wfile.write(f"X-{number}: y\r\n".encode())
            self.wfile.flush()

    def garbage(self, rest):
        self.wfile.write(b"\x00\x01 no http\r\n\r\n")

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def shop():
    with http.server.ThreadingHTTPServer((HOST, 0), Shop) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()


def test_a_picture_is_fetched_and_redirects_are_followed(shop):
    for path in ("picture/", "redirect/1/", "redirect/2/", "picture/a b?x=ü#fragment"):
        assert read_link(f"{shop}/{path}", root="", policy=POLICY) == PICTURE
    assert Shop.seen[-1] == ("/picture/a%20b?x=%C3%BC", shop.removeprefix("http://"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("redirect/3/", "image_redirects"),
        ("redirect/1/http://forbidden.example/a.jpg", "image_host_forbidden"),
        ("redirect/1/file:///etc/passwd", "image_not_fetched"),
        ("lost/", "image_fetch_failed"),
        ("page/", "image_is_a_page"),
        ("hidden_page/", "image_is_a_page"),
        ("missing/", "image_http_status"),
        ("declared_huge/", "image_too_many_bytes"),
        ("huge/", "image_too_many_bytes"),
        ("short/", "image_fetch_failed"),
        ("garbage/", "image_fetch_failed"),
    ],
)
def test_answers_that_are_refused(shop, path, expected):
    assert reason(f"{shop}/{path}", policy=POLICY) == expected


@pytest.mark.parametrize("path", ["silent/", "drip/", "slow_head/", "redirect/1/drip/"])
def test_time_is_limited_in_all(shop, path):
    started = time.monotonic()
    assert reason(f"{shop}/{path.replace('1/drip', '1//drip')}", policy=dataclasses.replace(POLICY, timeout_s=0.5)) == (
        "image_timeout"
    )
    assert time.monotonic() - started < 1.5


def test_nothing_is_asked_of_a_host_that_is_not_allowed(shop):
    before = len(Shop.seen)
    port = shop.rpartition(":")[2]
    for hosts in ((), ("example.com",), ("*.0.0.1",), ("127.0.0.1.example.com",)):
        policy = dataclasses.replace(POLICY, allowed_hosts=hosts)
        for link in (f"{shop}/picture/", f"http://example.com@{HOST}:{port}/picture/"):
            assert reason(link, policy=policy) in ("image_host_forbidden", "image_address_forbidden")
    assert reason(f"{shop}/picture/", policy=dataclasses.replace(POLICY, fetch=False)) == "image_not_fetched"
    assert len(Shop.seen) == before


@pytest.mark.parametrize(
    ("address", "allowed", "expected"),
    [
        (HOST, "*.example.com", "image_address_forbidden"),
        ("10.1.2.3", "*.example.com", "image_address_forbidden"),
        ("169.254.169.254", "*.example.com", "image_address_forbidden"),
        ("::ffff:127.0.0.1", "*.example.com", "image_address_forbidden"),
        (HOST, "IMG.example.com", None),
    ],
)
def test_private_addresses_need_an_exact_name(shop, monkeypatch, address, allowed, expected):
    lookups = []

    def lookup(host, port, *_, **__):
        lookups.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(links.socket, "getaddrinfo", lookup)
    link = f"http://img.EXAMPLE.com.:{shop.rpartition(':')[2]}/picture/"
    policy = dataclasses.replace(POLICY, allowed_hosts=(allowed,))
    if expected:
        assert reason(link, policy=policy) == expected
    else:
        assert read_link(link, root="", policy=policy) == PICTURE
        assert Shop.seen[-1][1].startswith("img.example.com:")
    # The name is asked for once, and the connection goes to the address that was checked.
    assert lookups == ["img.example.com"] + [HOST] * (expected is None)


def test_hosts_without_address_or_server(shop):
    with socket.socket() as free:
        free.bind((HOST, 0))
        assert reason(f"http://{HOST}:{free.getsockname()[1]}/", policy=POLICY) == "image_fetch_failed"
    policy = dataclasses.replace(POLICY, allowed_hosts=("no-such-host.invalid",))
    assert reason("http://no-such-host.invalid/a.jpg", policy=policy) == "image_fetch_failed"
    for link in ("http://", "http:///a.jpg", "http://[::1", "http://a:999999/", "https://\0/a", "http://\ud800/"):
        assert reason(link, policy=POLICY) in ("image_fetch_failed", "image_not_fetched", "image_host_forbidden")
