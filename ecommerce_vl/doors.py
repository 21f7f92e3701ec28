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
        return app.parse_flags_with_usage(argv) if _wants_help(argv) else flags.FLAGS(argv)
    except (flags.Error, KeyError, AttributeError, ValueError, TypeError, OSError, ImportError, SyntaxError) as error:
        fail(door, _flag_message(error, argv))


def _wants_help(argv: list[str]) -> bool:
    return any(re.fullmatch(r"--?(help|helpshort|helpfull|helpxml|\?)", argument) for argument in argv[1:])


def _flag_message(error: Exception, argv: list[str]) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    unknown = re.search(r"Unknown command line flag '([\w.]+)'", text)
    if unknown:
        near = difflib.get_close_matches(unknown[1], list(flags.FLAGS), n=1)
        text = f"there is no flag --{unknown[1]}" + (f"; did you mean --{near[0]}?" if near else "; see --help")
    return text


def _main(main: Callable[[], int | None], argv: list[str], *, door: str) -> int:
    if len(argv) > 1:
        fail(door, f"unexpected argument {argv[1]!r}; flags have the form --name=value, see --help")
    try:
        return main() or 0
    except UserError as error:
        fail(door, str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fail(door, f"the disk is full while writing {error.filename or 'the output'}; free space and run again")
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR):
            fail(door, f"cannot use {error.filename}: {os.strerror(error.errno)}; check the path and its permissions")
        raise
    except KeyboardInterrupt:
        fail(door, "interrupted")
    return 1
