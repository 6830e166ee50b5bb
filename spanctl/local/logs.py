"""The logs of parts, kept small while the parts run, and free of what a library repeats in them."""

import os
import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

LARGEST: Final = 5 * 1024 * 1024
"""Bytes after which a log is put aside; one earlier piece of it is kept."""
_TOLERABLE: Final = 64 * 1024
_EVERY: Final = 10.0
_NOISE: Final = re.compile(rb"^.*re2\.cc:\d+: DFA out of memory: .*\n", re.MULTILINE)
"""What the emulator writes, twice a statement, as it begins to read one anew in another way."""


def aside(log: Path) -> Path:
    """Return where an earlier piece of a log is."""
    return log.with_suffix(".log.1")


def keep_small(folder: Path) -> None:
    """Look after all logs of a folder while this process lives, in a thread."""

    def look_after() -> None:
        while True:
            time.sleep(_EVERY)
            tidy(folder.glob("*.log"))

    threading.Thread(target=look_after, name="spanctl-logs", daemon=True).start()


def tidy(logs: Iterable[Path]) -> None:
    """Take the noise out of logs, and put those aside that are large all the same.

    Whoever writes them appends, so they are emptied in place; a line that comes in this very
    moment may be lost. What can't be read or written is left for the next time.
    """
    for log in logs:
        with suppress(OSError):
            if log.stat().st_size > _TOLERABLE:
                _tidy(log)


def _tidy(log: Path) -> None:
    written = log.read_bytes()
    kept = _NOISE.sub(b"", written)
    if len(kept) > LARGEST:
        handle = os.open(aside(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(kept)
        kept = b""
    elif len(kept) == len(written):
        return
    with log.open("ab") as stream:
        stream.truncate(0)
        stream.write(kept)
