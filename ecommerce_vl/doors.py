"""How every door opens and closes: flags, one clear sentence when something is wrong, the exit status.

0 finished; 1 the user can mend it (the sentence says how); 75 stopped by a signal after a save, run again to go on.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging

from ecommerce_vl.errors import UserError

PREEMPTED = 75  # EX_TEMPFAIL: a launcher runs the same command again


def run(main: Callable[[], int | None], *, door: str, default_config: Path | None = None) -> None:
    """Parses the flags, runs `main`, and turns what a user can mend into one sentence on standard error.

    Args:
      main: does the work; returns the exit status, None for 0.
      door: the name that starts every message.
      default_config: the value of --config where the user gives none. (As a default of the flag itself, overrides
        such as --config.key=1 would be applied at import, outside of the handling of errors here.)
    """
    logging.set_verbosity(logging.WARNING)
    logging.use_absl_handler()
    argv = list(sys.argv)
    if default_config and not any(re.match(r"--?config(=|$)", argument) for argument in argv):
        argv.insert(1, f"--config={default_config}")
    app.run(lambda rest: _main(main, rest, door=door), argv=argv, flags_parser=lambda rest: _parse(rest, door=door))


def fail(door: str, message: str) -> None:
    """Prints the sentence and leaves with status 1."""
    sys.stderr.write(f"{door}: {' '.join(str(message).split())}\n")
    sys.stderr.flush()
    sys.exit(1)


def _parse(argv: list[str], *, door: str) -> list[str]:
    try:
        rest = app.parse_flags_with_usage(argv) if _wants_help(argv) else flags.FLAGS(argv)
        for name in flags.FLAGS:
            # ml_collections reports a config file that it cannot read at the first look inside, so look now.
            getattr(flags.FLAGS[name].value, "to_dict", None)
        return rest
    except Exception as error:  # a config file is the user's own program and raises anything
        fail(door, _flag_message(error, argv))


def _wants_help(argv: list[str]) -> bool:
    return any(re.fullmatch(r"--?(help|helpshort|helpfull|helpxml|\?)", argument) for argument in argv[1:])


def _flag_message(error: Exception, argv: list[str]) -> str:
    """What was wrong with the flags, in one sentence; absl and ml_collections say it in their own terms."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if unknown := re.search(r"Unknown command line flag '([\w.]+)'", text):
        near = difflib.get_close_matches(unknown[1], list(flags.FLAGS), n=1)
        return f"there is no flag --{unknown[1]}" + (f"; did you mean --{near[0]}?" if near else "; see --help")
    if missing := re.match(r"flag --([\w.]+)=None: Flag --\1 must have a value other than None", text):
        return f"--{missing[1]} is missing; expected --{missing[1]}=VALUE: {flags.FLAGS[missing[1]].help}"
    if either := re.search(r"Exactly one of \((\w+), (\w+)\)", text):
        found = "neither" if f"{either[1]}=None" in text else "both"
        return f"expected one of --{either[1]} and --{either[2]}, found {found}"
    if wrong := re.match(r"flag --([\w.\[\]]+)=(.*?): (.*)", text, re.DOTALL):
        name, value, reason = wrong.groups()
        if name == "config":
            return _config_failed(value, _last_line(reason))
        if "as a ConfigDict" in reason:
            return f"--{name} is {value!r}; expected a group of keys, to be set one by one as --{name}.KEY=VALUE"
        expected = f"another value: {_last_line(reason)}"
        if name in flags.FLAGS:
            choices = getattr(flags.FLAGS[name].parser, "enum_values", None)
            expected = f"one of {', '.join(choices)}" if choices else flags.FLAGS[name].flag_type()
        return f"--{name} is {value!r}; expected {expected}"
    if isinstance(error, (KeyError, AttributeError)) and (key := _config_key(text, argv)):
        return key
    if "earlier failure to load" in text:
        return f"--config={_config_file(argv)} cannot be read: {_last_line(text)}; check the path"
    if isinstance(error, (flags.Error, OSError)):
        return text
    # The rest comes out of the config file itself.
    line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    return _config_failed(_config_file(argv), f"{type(error).__name__}: {_last_line(text)}{line}")


def _config_failed(value: str, reason: str) -> str:
    """A file may refuse the argument after its colon; any other failure is the file's own."""
    if ":" in value and "expected one of" in reason:
        return f"--config={value}: {reason.removeprefix('ValueError: ')}"
    return f"--config={value} failed: {reason}; mend the file"


def _config_key(text: str, argv: list[str]) -> str | None:
    """The message for an override of a key that the config lacks, or None if no override has the key of the error."""
    key = (re.search(r"\.(\w+) does not exist", text) or re.search(r"(\w+)", text) or [None, ""])[1]
    near = re.search(r'Did you mean "([^"]+)" instead', text)
    for argument in argv[1:]:
        path = re.match(r"--?(\w+(?:\.[\w\[\]]+)+)(=|$)", argument)
        if path and key in (parts := path[1].split(".")):
            place = parts.index(key)
            meant = ".".join([*parts[:place], near[1], *parts[place + 1 :]]) if near else ""
            fix = f"did you mean --{meant}?" if meant else f"the keys are those of {_config_file(argv)}"
            return f"there is no config key --{path[1]}; {fix}"
    return None


def _config_file(argv: list[str]) -> str:
    for place, argument in enumerate(argv):
        if match := re.match(r"--?config(?:=(.*))?$", argument):
            return match[1] or "".join(argv[place + 1 : place + 2])
    return ""


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is at the root; the checkpoint store reports it as text inside errors of its own."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _main(main: Callable[[], int | None], argv: list[str], *, door: str) -> int:
    if len(argv) > 1:
        fail(door, f"unexpected argument {argv[1]!r}; flags have the form --name=value, see --help")
    try:
        return main() or 0
    except UserError as error:
        fail(door, str(error))
    except Exception as error:
        if _is_disk_full(error):
            written = getattr(error, "filename", None) or "the output"
            fail(door, f"the disk is full while writing {written}; free space and run again")
        if not isinstance(error, OSError):
            raise
        if error.errno == errno.EFBIG:
            fail(door, f"{error.filename or 'the output'} is larger than this system lets a file be; see ulimit -f")
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT):
            fail(door, f"cannot use {error.filename}: {os.strerror(error.errno)}; check the path and its permissions")
        raise
    except KeyboardInterrupt:
        fail(door, "interrupted")
    return 1
