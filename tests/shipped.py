"""The files of configs/, and what may follow the colon of --config=configs/FILE.py:ARGUMENT."""

import importlib
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "configs"
FILES = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in ("__init__", "common"))


def arguments(name):
    """Those that configs/NAME.py says it takes, when it is asked for another; none where it takes none."""
    get_config = importlib.import_module(f"configs.{name}").get_config
    if not get_config.__code__.co_argcount:
        return []
    try:
        get_config("?")
    except ValueError as error:
        return str(error).rpartition("expected one of ")[2].split(", ")
    raise AssertionError(f"configs/{name}.py takes any argument")


def config_of(name, argument=None):
    get_config = importlib.import_module(f"configs.{name}").get_config
    return (get_config(argument) if argument else get_config()).to_dict()


def training():
    """(file, argument or None) of every shipped training config."""
    return [(name, argument) for name in FILES if name != "prepare" for argument in arguments(name) or [None]]


def is_first(name, argument):
    """Whether it is the first that the config takes: its smallest size."""
    return argument == next(iter(arguments(name)), None)
