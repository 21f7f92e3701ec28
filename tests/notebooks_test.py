"""The notebooks: run top to bottom as they stand, use what users have, and are committed in a form that reads well."""

import ast
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NAMES = ("quickstart", "evaluate", "explore", "compare_models", "inspect_data")  # the first makes what the others share
MOST_BYTES = 1_000_000


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def sources(book):
    return [cell.source for cell in book.cells if cell.cell_type == "code"]


def python_of(source):
    """A cell without its shell commands and magics."""
    lines = (re.sub(r"^(\s*)[!%].*", r"\1pass", line) for line in source.splitlines())
    return ast.parse("\n".join(lines))


def texts(book):
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            yield output.get("text", "")
            yield from (value for kind, value in output.get("data", {}).items() if kind.startswith("text/"))


def test_the_folder_holds_the_five():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_as_it_ran(name):
    book = read(name)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it top to bottom and save it"
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/jpeg" in output.get("data", {}) for output in outputs)
    assert not any("image/png" in output.get("data", {}) for output in outputs), "pictures are small JPEGs"
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MOST_BYTES
    for text in texts(book):
        assert not re.search(r"/(tmp|home|root|work|Users)/", text), "an output names a folder of somebody's machine"
        assert "Traceback" not in text and "Warning" not in text
    assert "colab" in book.cells[0].source


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_uses_the_public_face_alone(name):
    book = read(name)
    for source in sources(book):
        for node in ast.walk(python_of(source)):
            if isinstance(node, ast.Import):
                assert all(one.name == "ecommerce_vl" or "ecommerce_vl." not in one.name for one in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("ecommerce_vl")
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "vl":
                assert node.attr == "load"
    doors = {door for source in sources(book) for door in re.findall(r"-m ecommerce_vl\.(\w+)", source)}
    assert doors and doors <= {"prepare", "train", "evaluate", "export", "search", "plan"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks") / "shared"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_top_to_bottom(name, home):
    book = read(name)
    environment = os.environ | {"ECOMMERCE_VL_HOME": str(home), "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    client = NotebookClient(book, timeout=600, resources={"metadata": {"path": str(FOLDER)}})
    client.execute(env=environment)  # raises where a cell does
    for made in ("data/prepare.json", "run/config.json"):
        assert (home / made).exists()
    before = [sum("image/jpeg" in output.get("data", {}) for output in cell.outputs) for cell in read(name).cells
              if cell.cell_type == "code"]  # fmt: skip
    now = [sum("image/jpeg" in output.get("data", {}) for output in cell.outputs) for cell in book.cells
           if cell.cell_type == "code"]  # fmt: skip
    assert [count > 0 for count in now] == [count > 0 for count in before], "a cell shows what the committed one shows"
