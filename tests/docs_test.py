"""Every command that the README and the docs print is run, in its smoke form, in the order they are printed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SMOKE = ["--config.total_samples=96", "--config.batch_size=32", "--config.data.num_workers=0"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands():
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("python -m ")]


@pytest.fixture(scope="module")
def places(sample_data, tmp_path_factory):
    """What the words of the README stand for here."""
    folder = tmp_path_factory.mktemp("readme")
    names = {name: str(folder / name) for name in ("DATA", "RUN", "EVAL", "VECTORS", "search.html")}
    picture = next((sample_data / "feed" / "images").glob("*.jpg"))
    feed = {"catalog.jsonl": "products.jsonl", "clicks.jsonl": "clicks.jsonl"}
    return names | {name: str(sample_data / "feed" / file) for name, file in feed.items()} | {"dress.jpg": str(picture)}


def in_place(text, places):
    for name, place in places.items():
        text = re.sub(rf"(?<![\w/.]){re.escape(name)}(?![\w/])", place, text)
    return text


@pytest.mark.slow
def test_the_commands_of_the_readme_work_in_their_order(places):
    found = commands()
    doors = [re.search(r"ecommerce_vl\.(\w+)", line)[1] for line in found]
    assert doors == ["prepare", "prepare", "train", "evaluate", "export", "search", "plan"]
    environment = os.environ | {"XLA_FLAGS": ""}
    for line in found:
        words = shlex.split(in_place(line, places))
        more = SMOKE if "ecommerce_vl.train" in words else []
        done = subprocess.run(
            [sys.executable, *words[1:], *more], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    for name in (
        "EVAL/report.html",
        "EVAL/metrics.json",
        "VECTORS/_SUCCESS",
        "VECTORS/manifest.json",
        "RUN/config.json",
    ):
        folder, file = name.split("/")
        assert (Path(places[folder]) / file).exists(), name
    assert "red cotton dress" in Path(places["search.html"]).read_text()
    # The Python of the README, on the run that the commands left.
    (code,) = blocks("python")
    check = "\nassert encoder.embed_texts(['a']).shape == (1, encoder.dim)"
    subprocess.run(
        [sys.executable, "-c", in_place(code, places) + check], cwd=ROOT, env=environment, check=True, timeout=120
    )


def test_what_the_readme_links_to_exists():
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            if "://" not in target:
                assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_paths_named_in_backticks_exist():
    for file in (ROOT / "README.md", ROOT / "docs" / "architecture.md"):
        for name in re.findall(
            r"`((?:ecommerce_vl|configs|launch|tests|docs|training|data|models|losses)/[\w/.]*)`", file.read_text()
        ):
            assert (ROOT / name).exists() or (ROOT / "ecommerce_vl" / name).exists(), f"{file.name} names {name}"


def test_the_command_in_the_docstring_of_each_config_names_it():
    for file in sorted((ROOT / "configs").glob("*.py")):
        if file.name != "__init__.py":
            assert f"configs/{file.name}" in file.read_text().split('"""')[1], file.name


@pytest.mark.parametrize("door", ["prepare", "train", "evaluate", "export", "search", "plan"])
def test_help_teaches(door):
    done = subprocess.run(
        [sys.executable, "-m", f"ecommerce_vl.{door}", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"python -m ecommerce_vl.{door}" in done.stdout
    assert "Traceback" not in done.stderr
