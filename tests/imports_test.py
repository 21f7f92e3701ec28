"""The direction of imports, and what `import ecommerce_vl` must not load."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ecommerce_vl"
SHARED = {"errors", "files", "pages", "progress", "__version__"}  # what every room may use
# room -> rooms it may import; doors (files at the top) may import all of them.
MAY_IMPORT = {
    "data": set(),
    "models": set(),
    "losses": set(),
    "systems": {"models", "losses"},
    "training": {"data"},
    "evaluation": set(),
    "exporting": {"data"},
    "planning": {"systems", "training"},
}
FORBIDDEN = {
    "data": {"jax", "jaxlib", "flax", "optax", "orbax", "absl"},
    "models": {"optax", "orbax", "grain", "ml_collections", "absl"},
    "losses": {"flax", "optax", "orbax", "grain", "ml_collections", "absl"},
    "systems": {"optax", "orbax", "grain", "absl"},
    "training": {"absl"},
    "evaluation": {"flax", "optax", "orbax", "grain", "absl"},
    "exporting": {"flax", "optax", "orbax", "grain", "absl"},
    "planning": {"flax", "optax", "orbax", "grain", "absl"},
}
NEVER = {"tensorflow", "torch", "wandb", "cv2"}


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def files_of(room):
    return sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_in_one_direction(room):
    allowed = MAY_IMPORT[room] | {room} | SHARED
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files_of(room)
        for name in imports(file)
        if name.startswith("ecommerce_vl.") and name.split(".")[1] not in allowed
    ]
    assert files_of(room)
    assert not wrong


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_do_not_know_what_is_not_theirs(room):
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files_of(room)
        for name in imports(file)
        if name.split(".")[0] in FORBIDDEN[room] | NEVER
    ]
    assert not wrong


def test_every_room_is_listed():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(MAY_IMPORT)


def test_collectives_live_in_losses_only():
    names = ("all_gather", "psum", "pmax", "pmean", "ppermute", "all_to_all", "shard_map")
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in names
    }
    assert users == {"losses"}


def loaded_by(statement):
    code = f"import sys; {statement}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import ecommerce_vl") & (NEVER | {"jax", "flax", "transformers", "numpy", "sklearn"})


def test_preparing_data_loads_no_accelerator_library():
    assert not loaded_by("import ecommerce_vl.data.preparation") & (NEVER | {"jax", "flax", "transformers"})


@pytest.mark.parametrize(
    "module", ["encoder", "training.loop", "evaluation.suite", "evaluation.report", "data.preparation"]
)
def test_no_other_framework_is_loaded(module):
    assert not loaded_by(f"import ecommerce_vl.{module}") & (NEVER | {"transformers"})


@pytest.mark.parametrize("module", ["data.batches", "encoder", "training.loop"])
def test_importing_touches_no_jax_backend(module):
    # grain itself imports jax where it is installed, so the loader can only promise not to start a backend.
    code = f"import ecommerce_vl.{module}, jax._src.xla_bridge as bridge; print(bridge.backends_are_initialized())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("door", ["prepare", "train", "evaluate", "export", "search", "plan"])
def test_help_of_a_door_loads_nothing_heavy(door):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"ecommerce_vl.{door}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert f"ecommerce_vl.{door}" in done.stdout and "absl" in loaded
    heavy = {"jax", "flax", "grain", "numpy", "pyarrow", "duckdb", "ibis", "sklearn", "tensorflow_datasets", "PIL"}
    assert not loaded & (NEVER | heavy | {"transformers"})


# What the package needs and does not import: a need of another package, or a limit on one.
INDIRECT = {"importlib_resources", "sqlglot", "flatbuffers"}
OPTIONAL = {"apache_beam", "faiss", "usearch"}  # what extras bring
IMPORTED_AS = {"absl-py": "absl", "orbax-checkpoint": "orbax", "ibis-framework": "ibis", "scikit-learn": "sklearn"}
IMPORTED_AS |= {"pillow": "PIL"}


def test_every_dependency_is_imported_and_has_a_reason():
    lines = (ROOT / "setup.py").read_text().split("REQUIRES = [\n")[1].split("\n]")[0].splitlines()
    used = {name.split(".")[0] for file in PACKAGE.rglob("*.py") for name in imports(file)}
    for line in lines:
        name = re.match(r"\s*[\"']([\w-]+)", line)[1]
        assert re.search(r"  # \S", line), f"setup.py does not say what {name} is for"
        module = IMPORTED_AS.get(name, name.replace("-", "_"))
        assert module in used or name in INDIRECT, f"nothing imports {name}"
    assert used - {"ecommerce_vl", *sys.stdlib_module_names} - OPTIONAL <= {
        IMPORTED_AS.get(name, name.replace("-", "_"))
        for name in re.findall(r"^\s*[\"']([\w-]+)", "\n".join(lines), re.M)
    }
