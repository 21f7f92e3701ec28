"""Every command that the README, the docs, the doors, the configs and the notebooks print.

All are read: each names a door or a script, flags and config keys that are there. Those of the README and of the pages
of the systems are run too, in their smoke form, in the order in which they are printed, and so is that of each config.
"""

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.programs import environment

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOORS = ("prepare", "train", "evaluate", "export", "search", "plan")
# Pages whose commands are run in their order; those of launch.md and weights.md want machines and published models, and
# have tests of their own (launch_test.py, pretrained/).
RUN = ("README.md", "docs/seed_model.md")
RUN += ("docs/eclip.md", "docs/item.md", "docs/same_style.md", "docs/query_retrieval.md")
CONFIGS = ("eclip", "gcl", "item", "make", "myntra", "query_retrieval", "quickstart", "same_style")
# What the README says that its commands leave.
LEFT = {
    "RUN": {"config.json", "data.json", "metrics.jsonl", "tensorboard", "checkpoints", "tokenizer", "preprocess.json"},
    "EVAL": {"report.html", "metrics.json"},
    "VECTORS": {"_SUCCESS", "manifest.json"},
    "MODEL": {"text.stablehlo", "tokenizer.json", "model.json", "golden.npz"},
}
# What makes a training, or the mining of a log, one of seconds, where the config has the key.
SMOKE = {
    "train": {
        "total_samples": 64, "batch_size": 32, "bank.size": 64, "data.num_workers": 0, "data.id_rows": 256,
        "optimizer.warmup_samples": 32, "evaluate.products": 32,
        "image.size": 32, "image.patch_size": 16, "image.width": 32, "image.depth": 1, "image.heads": 2,
        "text.width": 32, "text.depth": 1, "text.heads": 2, "text.vocab_size": 400, "embed_dim": 32,
        "joint.width": 32, "joint.depth": 1, "joint.heads": 2,
        "cross.width": 32, "cross.depth": 1, "cross.heads": 2, "mpm.candidates": 64,
    },
    "prepare": {"logs.min_clients": 1, "logs.min_query_support": 1, "logs.min_pair_support": 1, "num_workers": 1},
}  # fmt: skip


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands_of(text):
    """The commands in blocks, indented lines, backticks and cells, on one line each."""
    text = re.sub(r"\\+\n\s*", " ", text)
    found = re.findall(r"(?<![\w-])((?:python (?:-m )?|bash |sbatch )[^`\n|#]*)", text)
    known = re.compile(r"python -m (ecommerce_vl|benchmarks)\.\w|python benchmarks/|bash launch/|sbatch ")
    return [line.strip() for line in found if known.match(line)]


@cache
def places_of_commands():
    """File -> its commands."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    sources = [*ROOT.glob("configs/*.py"), *ROOT.glob("benchmarks/*.py"), *(ROOT / "ecommerce_vl").glob("*.py")]
    texts = {file: file.read_text() for file in pages}
    texts |= {file: ast.get_docstring(ast.parse(file.read_text())) or "" for file in sources}
    for file in ROOT.glob("notebooks/*.ipynb"):
        texts[file] = "\n".join("".join(cell["source"]) for cell in json.loads(file.read_text())["cells"])
    return {str(file.relative_to(ROOT)): found for file, text in sorted(texts.items()) if (found := commands_of(text))}


def leaves(content, prefix=""):
    for name, one in content.items():
        yield from leaves(one, f"{prefix}{name}.") if hasattr(one, "items") else [prefix + name]


@cache
def keys_of(config):
    """Of "configs/NAME.py" or "configs/NAME.py:ARGUMENT"."""
    file, _, argument = config.partition(":")
    get_config = importlib.import_module(file.removesuffix(".py").replace("/", ".")).get_config
    return set(leaves(get_config(argument) if argument else get_config()))


@pytest.mark.parametrize("place", sorted(places_of_commands()))
def test_a_command_names_what_there_is(place):
    for line in places_of_commands()[place]:
        if "..." in line or "…" in line or "{" in line:  # a pattern, not a command
            continue
        words = shlex.split(re.sub(r"[\[\]()]", " ", line))
        if words[0] != "python":
            assert any((ROOT / word).exists() for word in words[1:]), f"{line}: no such script"
            continue
        module = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
        source = (ROOT / module).read_text()
        for shared in re.findall(r"^from benchmarks\.(\w+) import", source, flags=re.MULTILINE):  # may hold its flags
            source += (ROOT / "benchmarks" / f"{shared}.py").read_text()
        config = next((word.split("=", 1)[1] for word in words if word.startswith("--config=")), "configs/prepare.py")
        for word in words:
            name = word.split("=")[0].lstrip("-")
            if not word.startswith("--"):
                continue
            if name.startswith("config."):
                assert name.removeprefix("config.") in keys_of(config), f"{line}: {config} has no key {name}"
            else:
                if "--{field.name}" in source:  # a flag for each field of a dataclass
                    continue
                flag = name.removeprefix("no") if f'"{name}"' not in source and f'"--{name}"' not in source else name
                assert f'"{flag}"' in source or f'"--{flag}"' in source, f"{line}: {module} has no flag --{name}"
            if name == "config" and "configs/" in word:
                assert keys_of(config)


@pytest.fixture
def places(sample_data, tmp_path):
    """What the words of a page stand for here."""
    names = (
        "RUN", "SEED", "TUNED", "GCL", "EVAL", "VECTORS", "SEED_VECTORS", "NEW_VECTORS", "MODEL", "LOG", "search.html"
    )  # fmt: skip
    feed = {"catalog.jsonl": "products.jsonl", "products.jsonl": "products.jsonl"}
    feed |= {name: name for name in ("clicks.jsonl", "queries.jsonl")}
    return (
        {name: str(tmp_path / name) for name in names}
        | {"DATA": str(sample_data), "NEW_DATA": str(sample_data)}
        | {"dress.jpg": str(next((sample_data / "feed" / "images").glob("*.jpg")))}
        | {name: str(sample_data / "feed" / file) for name, file in feed.items()}
        | {"weak_style_group": "item_group_id", "40000": "4000"}  # the sample has another column, and fewer products
    )


def in_place(text, places):
    """With the places for their names, each name once."""
    names = "|".join(re.escape(name) for name in sorted(places, key=len, reverse=True))
    return re.sub(rf"(?<![\w/.])({names})(?!\w)", lambda found: places[found[1]], text)


def run(line, places):
    """Runs a command of a page, as small as can be."""
    words = shlex.split(in_place(line, places))
    door = words[2].removeprefix("ecommerce_vl.")
    config = next((word.split("=", 1)[1] for word in words if word.startswith("--config=")), "configs/prepare.py")
    given = {word.split("=")[0] for word in words}
    small = [
        f"--config.{key}={value}"
        for key, value in SMOKE.get(door, {}).items()
        if key in keys_of(config) and f"--config.{key}" not in given
    ]
    done = subprocess.run(
        [sys.executable, *words[1:], *small], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def commands_to_run(page):
    """Those in blocks and indented lines."""
    fenced = [block for block in page.split("```")[1::2] if block.split("\n")[0] in ("", "bash")]
    text = "\n".join([*fenced, *re.findall(r"^    .*", page, re.MULTILINE)])
    return [line for line in commands_of(text) if line.startswith("python")]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_work_in_their_order(page, places, tmp_path):
    text = (ROOT / page).read_text()
    found = commands_to_run(text)
    assert found
    if "ecommerce_vl.prepare" in found[0]:
        places |= {"DATA": str(tmp_path / "DATA"), "NEW_DATA": str(tmp_path / "DATA")}
    for line in found:
        run(line, places)
    for folder, names in LEFT.items():
        if page == "README.md":
            assert {file.name for file in Path(places[folder]).iterdir()} >= names
    # Its Python, on the run that the commands left.
    for code in blocks("python", text):
        check = "\nassert encoder.embed_texts(['a']).shape == (1, encoder.dim)"
        code = in_place(code, places) + check
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_the_readme_shows_every_door():
    found = commands_to_run(README)
    assert tuple(dict.fromkeys(re.search(r"ecommerce_vl\.(\w+)", line)[1] for line in found)) == DOORS


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_of_a_config_works(name, places):
    (line,) = places_of_commands()[f"configs/{name}.py"]
    queries = " --config.data.queries=derived" if "data.queries" in keys_of(f"configs/{name}.py") else ""
    pairs = " --config.data.pairs=catalog" if "data.pairs" in keys_of(f"configs/{name}.py") else ""
    run(line + queries + pairs, places)
    assert (Path(places["RUN"]) / "config.json").exists()


def test_what_the_readme_links_to_exists():
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            if "://" not in target:
                assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_paths_named_in_backticks_exist():
    rooms = [folder.name for folder in (ROOT / "ecommerce_vl").iterdir() if (folder / "__init__.py").exists()]
    folders = "|".join(["ecommerce_vl", "configs", "launch", "tests", "docs", "benchmarks", *rooms])
    for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for name in re.findall(rf"`((?:{folders})/[\w/.]*)`", file.read_text()):
            assert (ROOT / name).exists() or (ROOT / "ecommerce_vl" / name).exists(), f"{file.name} names {name}"


def test_the_command_in_the_docstring_of_each_config_names_it():
    for file in sorted((ROOT / "configs").glob("*.py")):
        if file.name != "__init__.py":
            assert f"configs/{file.name}" in file.read_text().split('"""')[1], file.name


@pytest.mark.parametrize("door", DOORS)
def test_help_teaches(door):
    done = subprocess.run(
        [sys.executable, "-m", f"ecommerce_vl.{door}", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"python -m ecommerce_vl.{door}" in done.stdout
    assert "Traceback" not in done.stderr
