"""The logs of parts, read from their files."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spanctl.local.state import tail

_POLL: Final = 0.2


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a part's log."""

    part: str
    text: str


def last(logs: Mapping[str, Path], lines: int) -> Iterator[Line]:
    """Return the last lines of each log, log by log; a log that isn't there has none."""
    for part, path in logs.items():
        for text in tail(path, lines):
            yield Line(part, text)


def on(logs: Mapping[str, Path], lines: int) -> Iterator[Line | None]:
    """Return the last lines of each log, then every further line; it never ends.

    Whenever there is nothing new it returns None, so that the caller may stop.
    """
    seen = {part: _size(path) for part, path in logs.items()}
    rest = dict.fromkeys(logs, b"")
    yield from last(logs, lines)
    while True:
        for part, path in logs.items():
            size = _size(path)
            if size < seen[part]:  # put aside, or removed, and begun anew
                seen[part], rest[part] = 0, b""
            if size > seen[part]:
                with path.open("rb") as stream:
                    stream.seek(seen[part])
                    data = stream.read(size - seen[part])
                seen[part] = size
                *whole, rest[part] = (rest[part] + data).split(b"\n")
                for text in whole:
                    yield Line(part, text.decode(errors="replace"))
        yield None
        time.sleep(_POLL)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
