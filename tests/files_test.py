"""Files appear whole or not at all, whatever happens while they are written."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ecommerce_vl.files import fresh_folder, sha256, whole_file, write_json, write_text

ROOT = Path(__file__).parents[1]
KILLED = """
import os, signal, sys
from pathlib import Path
from ecommerce_vl.files import whole_file
with whole_file(Path(sys.argv[1])) as partial:
    partial.write_text("half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_error_leaves_what_was_there(tmp_path):
    file = tmp_path / "state.json"
    write_text(file, "before")
    with pytest.raises(RuntimeError), whole_file(file) as partial:
        partial.write_text("half of it")
        assert file.read_text() == "before"
        raise RuntimeError
    assert file.read_text() == "before"
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_kill_leaves_what_was_there_and_a_fresh_folder_removes_the_rest(tmp_path):
    file = tmp_path / "state.json"
    write_text(file, "before")
    (tmp_path / ".hidden").write_text("a user's")
    done = subprocess.run([sys.executable, "-c", KILLED, str(file)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert file.read_text() == "before" and len(os.listdir(tmp_path)) == 3
    fresh_folder(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "state.json"]


def test_json_is_utf_8_whatever_the_locale(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"title": "Rød kjole"})
    assert file.read_bytes() == '{\n  "title": "Rød kjole"\n}\n'.encode()
    assert json.loads(file.read_bytes()) == {"title": "Rød kjole"}


def test_a_missing_file_has_no_digest(tmp_path):
    assert sha256(tmp_path / "none") == ""
    (tmp_path / "some").write_bytes(b"abc")
    assert sha256(tmp_path / "some") == hashlib.sha256(b"abc").hexdigest()
