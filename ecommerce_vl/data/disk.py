"""Errors of the disk as what they are, whichever library met them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Makes an OSError that names the folder of an error that names the system's own only in its text.

    ArrayRecord raises RuntimeError, DuckDB its IOException, and Arrow an OSError without a file.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        for code in CODES:
            if getattr(error, "errno", None) == code or os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code), str(folder)) from error
        raise
