"""A feed in a bucket, over the protocol of S3 itself: a server on this machine, reached by s3fs as a real one is."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def service():
    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    yield keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "FSSPEC_S3_ENDPOINT_URL": f"http://{host}:{port}"}
    server.stop()


def prepare(feed, out, environment):
    command = [sys.executable, "-m", "ecommerce_vl.prepare", f"--feed={feed}", f"--out={out}", "--config.num_workers=1"]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_feed_in_a_bucket_gives_the_shards_of_the_same_files_here(service, sample_data, tmp_path, monkeypatch):
    import s3fs

    for name, value in service.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem(endpoint_url=service["AWS_ENDPOINT_URL"])
    files.mkdir("shop")
    files.put(str(sample_data / "feed" / "products.jsonl"), "shop/feed/products.jsonl")
    files.put(str(sample_data / "feed" / "images"), "shop/feed/images", recursive=True)
    here = prepare(sample_data / "feed" / "products.jsonl", tmp_path / "here", {})
    there = prepare("s3://shop/feed/products.jsonl", tmp_path / "there", service)
    assert (here.returncode, there.returncode) == (0, 0), here.stderr + there.stderr
    shards = sorted(path.name for path in (tmp_path / "here").glob("*.array_record*"))
    assert shards and all((tmp_path / "here" / n).read_bytes() == (tmp_path / "there" / n).read_bytes() for n in shards)
    none = prepare("s3://shop/none.jsonl", tmp_path / "none", service)
    assert none.returncode != 0 and "s3://shop/none.jsonl" in none.stderr
    wrong = prepare("s3://elsewhere/products.jsonl", tmp_path / "none", service)
    assert wrong.returncode != 0 and "s3://elsewhere/products.jsonl" in wrong.stderr and "Traceback" not in wrong.stderr
