"""The export door as a user runs it, on a fake encoder: what it prints, what it refuses."""

import pytest

from tests.exporting.door import run


@pytest.fixture(scope="module")
def vectors(sample_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("door") / "vectors"
    done = run("export", "--workdir=RUN", f"--data={sample_data}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_it_says_what_it_wrote(vectors):
    out, printed = vectors
    assert (out / "_SUCCESS").exists() and len(list(out.glob("part-*.parquet"))) == 3
    for words in (
        "in = ",
        "with a picture",
        "space-one, 4 dimensions, fake/tiny step 7",
        "duplicate vectors",
        str(out),
    ):
        assert words in printed


def test_the_same_command_again_has_nothing_to_do(vectors, sample_data):
    done = run("export", "--workdir=RUN", f"--data={sample_data}", f"--out={vectors[0]}")
    assert done.returncode == 0 and "nothing to do" in done.stdout


def test_refusals_are_one_sentence(vectors, sample_data, tmp_path):
    for arguments, space, expected in (
        ((f"--data={sample_data}", f"--out={vectors[0]}"), "space-two", "holds vectors of the space space-one"),
        ((f"--data={tmp_path}", f"--out={tmp_path / 'out'}"), "space-one", "no prepared data at"),
    ):
        done = run("export", "--workdir=RUN", *arguments, space=space)
        assert done.returncode == 1 and expected in done.stderr
        assert done.stderr.startswith("export: ") and len(done.stderr.splitlines()) == 1


def test_what_is_to_be_written_is_told_once(tmp_path, sample_data):
    for flags, expected in (
        ((), "expected one of --data and --model, found neither"),
        ((f"--data={sample_data}", "--model=stablehlo"), "expected one of --data and --model, found both"),
        (("--model=onnx",), "--model is 'onnx'; expected one of stablehlo, hugging_face"),
    ):
        done = run("export", "--workdir=RUN", f"--out={tmp_path / 'out'}", *flags)
        assert done.returncode == 1 and expected in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_refresh_says_what_it_kept_and_an_index_what_it_finds(vectors, sample_data, tmp_path):
    pytest.importorskip("usearch")
    out = tmp_path / "again"
    command = ("--workdir=RUN", f"--data={sample_data}", f"--out={out}", "--index=usearch")
    done = run("export", *command, f"--refresh={vectors[0]}")
    assert done.returncode == 0, done.stderr
    assert "kept + 0 embedded (0 changed, 0 new); 0 of " in done.stdout
    assert "index    usearch effort  16: recall@10 " in done.stdout and (out / "index/usearch/index.bin").exists()
    for file in ("manifest.json", *(part.name for part in vectors[0].glob("part-*.parquet"))):
        assert (out / file).read_bytes() == (vectors[0] / file).read_bytes()
    again = run("export", *command)
    assert again.returncode == 0 and again.stdout.count("nothing to do") == 2


def test_a_refresh_of_another_space_or_in_place_is_refused(vectors, sample_data, tmp_path):
    command = ("--workdir=RUN", f"--data={sample_data}", f"--refresh={vectors[0]}")
    for out, space, expected in (
        (tmp_path / "other", "space-two", "export without --refresh"),
        (vectors[0], "space-one", "is the folder of --out too"),
    ):
        done = run("export", *command, f"--out={out}", space=space)
        assert done.returncode == 1 and expected in done.stderr
        assert done.stderr.startswith("export: ") and len(done.stderr.splitlines()) == 1
