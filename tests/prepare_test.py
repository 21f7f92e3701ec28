"""The prepare door as a user meets it: a process, its exit status, and one clear sentence when something is wrong."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.programs import environment

ROOT = Path(__file__).parents[1]


def door(*arguments: str, cwd: Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ecommerce_vl.prepare", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def limited_file_size() -> None:
    """Stands in for a full disk where none can be mounted: no file above 100 kB."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def assert_one_sentence(done: subprocess.CompletedProcess, *, says: str) -> None:
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("read  ", "write  "))]  # progress
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("prepare: ")
    assert says in lines[0]
    assert "Traceback" not in done.stderr + done.stdout


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A folder with a feed, a feed without rows, and config files that do not work."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    rows = [{"id": str(row), "title": f"shirt {row}", "image_link": f"{row}.jpg", "word": "x"} for row in range(40)]
    for row in rows:
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)).save(buffer, "JPEG")
        (folder / row["image_link"]).write_bytes(buffer.getvalue())
    rows.append({"title": "no id"})
    (folder / "feed.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "empty.csv").write_text("id,title\n")
    (folder / "notes.md").write_text("no feed")
    (folder / "broken.py").write_text("def get_config(:\n")
    (folder / "failing.py").write_text("def get_config():\n    return 1 / 0\n")
    (folder / "prepared").mkdir()
    (folder / "prepared" / "prepare.json").write_text("{}")
    return folder


def test_prepares_then_reuses_then_asks_before_replacing(shop, tmp_path):
    arguments = ("--feed=feed.jsonl", f"--out={tmp_path / 'out'}")
    first = door(*arguments, cwd=shop)
    assert first.returncode == 0, first.stderr
    assert "41 in = 40 out + 1 rejected (1 missing_id)" in first.stdout
    assert "read            41/41 products" in first.stderr
    assert "write           40/40 products" in first.stderr
    written = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    assert {"prepare.json", "rejects.parquet", "index.parquet", "dataset_info.json", "features.json"} <= set(written)

    second = door(*arguments, cwd=shop)
    assert second.returncode == 0, second.stderr
    assert "nothing to do" in second.stdout
    assert written == {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}

    other = (*arguments, "--config.images.max_side=64")
    assert_one_sentence(door(*other, cwd=shop), says="holds another feed or other settings; name another folder or add")
    assert door(*other, "--overwrite", cwd=shop).returncode == 0


def test_fixed_pictures_are_read_again_on_request(tmp_path):
    (tmp_path / "feed.jsonl").write_text('{"id": "1", "title": "red shirt", "image_link": "a.jpg"}')
    arguments = ("--feed=feed.jsonl", "--out=out")
    assert "0 with a picture" in door(*arguments, cwd=tmp_path).stdout
    Image.linear_gradient("L").save(tmp_path / "a.jpg")
    assert "nothing to do (add --overwrite if pictures changed)" in door(*arguments, cwd=tmp_path).stdout
    assert "1 with a picture" in door(*arguments, "--overwrite", cwd=tmp_path).stdout


def test_ignored_keys_are_in_the_summary(tmp_path):
    rows = [{"id": str(row), "title": f"shirt {row}", "catalog_id": "default"} for row in range(201)]
    (tmp_path / "feed.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = door("--feed=feed.jsonl", "--out=out", cwd=tmp_path)
    splits = next(line for line in done.stdout.splitlines() if line.startswith("splits"))
    assert splits.endswith("crosses splits · 201 rows with a catalog_id on too many rows, ignored")


def test_a_sample_never_replaces_a_users_folder(tmp_path):
    (tmp_path / "feed").mkdir()
    (tmp_path / "feed" / "mine.txt").write_text("mine")
    for more in ((), ("--overwrite",)):
        done = door("--feed=sample:3", "--out=.", *more, cwd=tmp_path)
        assert_one_sentence(done, says="feed holds files that are no sample of ours; move them or name another --out")
    explained = door("--feed=sample:3", "--out=.", "--explain", cwd=tmp_path)
    assert explained.returncode == 0 and "image_link" in explained.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["feed"]
    assert (tmp_path / "feed" / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_sample_is_redrawn_only_on_request(tmp_path):
    def drawn() -> dict:
        return {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out" / "feed").iterdir()}

    assert door("--feed=sample:12", "--out=out", cwd=tmp_path).returncode == 0
    before = drawn()
    assert "nothing to do" in door("--feed=sample:12", "--out=out", cwd=tmp_path).stdout
    done = door("--feed=sample:14", "--out=out", cwd=tmp_path)
    assert_one_sentence(done, says="holds another feed or other settings; name another folder or add --overwrite")
    assert door("--feed=sample:14", "--out=out", "--explain", cwd=tmp_path).returncode == 0
    assert drawn() == before
    assert "14 in = " in door("--feed=sample:14", "--out=out", "--overwrite", cwd=tmp_path).stdout
    assert drawn() != before
    assert not list((tmp_path / "out").glob(".*"))


def test_explains_columns_and_writes_nothing(shop, tmp_path):
    done = door("--feed=feed.jsonl", f"--out={tmp_path / 'out'}", "--config.columns=title=word", "--explain", cwd=shop)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines if not line.startswith(" ")] == [
        ["id", "->", "id"],
        ["title", "->", "attribute"],
        ["image_link", "->", "image_link"],
        ["word", "->", "title"],
    ]
    assert "    0.jpg  ->  [0.jpg]" in lines
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--feed=nowhere.jsonl"], "no product feed at 'nowhere.jsonl'; expected a file or folder with .jsonl"),
        (["--feed=notes.md"], "has the suffix '.md'; expected one of .jsonl"),
        (["--feed=empty.csv"], "--feed has no usable product in empty.csv: found no rows at all"),
        (["--feed=sample:many"], "expected sample:LISTINGS or sample:LISTINGS:SEED"),
        (
            ["--config.columns=title=headline"],
            "'headline', which is not in the feed; found id, image_link, title, word",
        ),
        (["--config.columns=headline=word"], "expected FIELD=COLUMN where FIELD is one of id"),
        (["--config.colums=x"], "there is no config key --config.colums; did you mean --config.columns?"),
        (
            ["--config.images.maxside=9"],
            "there is no config key --config.images.maxside; did you mean --config.images.max",
        ),
        (
            ["--config.imags.max_side=9"],
            "no config key --config.imags.max_side; did you mean --config.images.max_side?",
        ),
        (["--config.zzz=1"], "there is no config key --config.zzz; the keys are those of"),
        (["--config.rows_per_shard=many"], "--config.rows_per_shard is 'many'; expected int"),
        (["--config.images=3"], "--config.images is '3'; expected a group of keys"),
        (["--config.split.fractions=0.5"], "--config.split.fractions is (0.5,), expected three shares"),
        (["--config=nope.py"], "--config=nope.py cannot be read"),
        (["--config=broken.py"], "--config=broken.py failed: SyntaxError"),
        (["--config=failing.py"], "--config=failing.py failed: ZeroDivisionError: division by zero"),
        (["--overwrit"], "there is no flag --overwrit; did you mean --overwrite?"),
        (["--overwrite=maybe"], "--overwrite is 'maybe'; expected bool"),
        (["more"], "unexpected argument 'more'; flags have the form --name=value"),
        (["--out="], "--out is empty"),
        (["--out=notes.md"], "cannot use notes.md/prepare.json: Not a directory"),
        (["--out=prepared"], "prepared/prepare.json is no summary of a preparation"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_clear_sentence(shop, tmp_path, arguments, says):
    done = door("--feed=feed.jsonl", f"--out={tmp_path / 'out'}", *arguments, cwd=shop)
    assert_one_sentence(done, says=says)
    assert not (tmp_path / "out").exists()


def test_a_missing_flag_is_named(shop):
    assert_one_sentence(door("--feed=feed.jsonl", cwd=shop), says="--out is missing; expected --out=VALUE: folder for")


def test_a_file_too_large_leaves_only_what_the_next_run_continues(shop, tmp_path):
    out = tmp_path / "out"
    done = door("--feed=feed.jsonl", f"--out={out}", cwd=shop, preexec_fn=limited_file_size)
    assert_one_sentence(done, says="is larger than this system lets a file be; see ulimit -f")
    assert [file.name for file in out.iterdir()] == [".prepare"]
    assert door("--feed=feed.jsonl", f"--out={out}", cwd=shop).returncode == 0


def test_a_full_disk_leaves_only_what_the_next_run_continues(shop, tmp_path):
    out = tmp_path / "disk"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(out)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no small disk can be mounted here; the limit on file sizes above stands in for it")
    try:
        done = door("--feed=feed.jsonl", f"--out={out}", cwd=shop)
        assert_one_sentence(done, says=f"the disk is full while writing {out}")
        assert [file.name for file in out.iterdir()] == [".prepare"]
    finally:
        subprocess.run(["umount", str(out)], check=True)


def test_help_teaches(shop):
    done = door("--help", cwd=shop)
    assert "--feed: file, folder, glob" in done.stdout
    assert "Traceback" not in done.stderr
