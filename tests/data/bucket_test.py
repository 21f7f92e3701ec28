"""A feed in a bucket, over the protocols of S3 and Google Cloud Storage: servers on this machine take their place."""

import os
import socket
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def s3():
    """A file system with the bucket "shop", and the environment that leads a process there."""
    s3fs, moto_server = pytest.importorskip("s3fs"), pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    files = s3fs.S3FileSystem(key="key", secret="secret", endpoint_url=address)
    files.mkdir("shop")
    yield files, keys | {"AWS_ENDPOINT_URL": address, "FSSPEC_S3_ENDPOINT_URL": address}
    server.stop()


@pytest.fixture(scope="module")
def gs():
    """The same of Google Cloud Storage."""
    # gcsfs asks Google itself which kind each bucket is, and waits for minutes where there is no network.
    alone = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(alone, "false")
        gcsfs, emulator = pytest.importorskip("gcsfs"), pytest.importorskip("gcp_storage_emulator.server")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="shop")
        server.start()
        address = f"http://127.0.0.1:{port}"
        files = gcsfs.GCSFileSystem(token="anon", endpoint_url=address)
        yield files, {alone: "false", "STORAGE_EMULATOR_HOST": address, "FSSPEC_GS_TOKEN": "anon"}
        server.stop()


def prepare(feed, out, environment):
    command = [sys.executable, "-m", "ecommerce_vl.prepare", f"--feed={feed}", f"--out={out}", "--config.num_workers=1"]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("service", ["s3", "gs"])
def test_a_feed_in_a_bucket_gives_the_shards_of_the_same_files_here(service, request, sample_data, tmp_path):
    files, environment = request.getfixturevalue(service)
    files.put(str(sample_data / "feed" / "products.jsonl"), "shop/feed/products.jsonl")
    # One at a time: Google's stand-in serves one connection and keeps few waiting.
    files.put(str(sample_data / "feed" / "images"), "shop/feed/images", recursive=True, batch_size=1)
    here = prepare(sample_data / "feed" / "products.jsonl", tmp_path / "here", {})
    there = prepare(f"{service}://shop/feed/products.jsonl", tmp_path / "there", environment)
    assert (here.returncode, there.returncode) == (0, 0), here.stderr + there.stderr
    shards = sorted(path.name for path in (tmp_path / "here").glob("*.array_record*"))
    assert shards and all((tmp_path / "here" / n).read_bytes() == (tmp_path / "there" / n).read_bytes() for n in shards)
    for missing in (f"{service}://shop/none.jsonl", f"{service}://elsewhere/products.jsonl"):
        refused = prepare(missing, tmp_path / "none", environment)
        assert refused.returncode != 0 and missing in refused.stderr and "Traceback" not in refused.stderr
