"""The small prepared catalog and its export, made once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for catalog.py and fake_encoder.py

from catalog import export, write_catalog
from fake_encoder import FakeEncoder


@pytest.fixture(scope="session")
def catalog(tmp_path_factory) -> Path:
    return write_catalog(tmp_path_factory.mktemp("catalog") / "feed")


@pytest.fixture(scope="session")
def exported(catalog, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("vectors") / "all"
    export(FakeEncoder(), catalog, out)
    return out
