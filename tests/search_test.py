"""The search door as a user runs it, on a fake encoder: ranks, the page, and every refusal."""

import pytest

from tests.exporting.door import run


@pytest.fixture(scope="module")
def vectors(sample_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("door") / "vectors"
    done = run("export", "--workdir=RUN", f"--data={sample_data}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return out


def test_words_find_products_and_write_a_page(vectors, tmp_path):
    page = tmp_path / "page.html"
    done = run("search", "--workdir=RUN", f"--vectors={vectors}", "--query=red bag", "--k=3", f"--html={page}",
               "--view=text")  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["rank", "score", "id", "title", "category"]
    assert [line.split()[:2] for line in lines[1:4]] == [["1", "1.0000"], ["2", "1.0000"], ["3", "1.0000"]]
    ids = [line.split()[2] for line in lines[1:4]]
    assert ids == sorted(ids), "equal scores are ordered by id"
    assert all("red" in line.lower() for line in lines[1:4])
    assert page.read_text().count('<li class="card"') == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "nothing to search for"),
        (("--query= ",), "nothing to search for"),
        (("--query=red", "--k=0"), "--k=0: expected"),
        (("--query=red", "--image_weight=2"), "--image_weight=2.0: expected"),
        (("--image=README.none",), "no such file"),
        (("--image=setup.py",), "is not a usable picture: not_an_image"),
        (("--query=red", "--vectors=nowhere"), "no vectors at 'nowhere'"),
        (("--query=red", "--vectors=tests"), "_SUCCESS is missing"),
    ],
)
def test_wrong_questions_get_one_clear_sentence(vectors, arguments, expected):
    done = run("search", "--workdir=RUN", f"--vectors={vectors}", *arguments)
    assert done.returncode == 1 and expected in done.stderr, done.stderr
    assert done.stderr.startswith("search: ") and len(done.stderr.splitlines()) == 1


def test_vectors_of_another_space_are_refused(vectors):
    done = run("search", "--workdir=RUN", f"--vectors={vectors}", "--query=red", space="space-two")
    assert done.returncode == 1
    assert "of space space-one" in done.stderr and "is of space space-two" in done.stderr
