"""Canaries, and the search for them in everything that was written, sent or shown."""

import base64
import contextlib
import json
import sqlite3
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from spanctl.orchestration.connections import basic

_LEAST = 12
_PAGE = 200
SHAPE = b"ya29.c."
"""How each token of the stand-ins begins."""


def forms(value: bytes) -> set[bytes]:
    """Return a value as it may be written; worked out apart from the product's own list."""
    text = value.decode("latin-1")
    found = {
        value,
        json.dumps(text)[1:-1].encode(),
        repr(text)[1:-1].encode(),
        value.hex().encode(),
        value.hex().upper().encode(),
        urllib.parse.quote(text, safe="").encode(),
        urllib.parse.quote_plus(text).encode(),
    }
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"\0" * before + value).rstrip(b"=")
            found.add(whole[-(-before * 8 // 6) : len(whole) - 1])
    return {form for form in found if len(form) >= min(_LEAST, len(value))}


@dataclass
class Canaries:
    """Named values, and what they are looked for as."""

    values: dict[str, bytes] = field(default_factory=dict)

    def plant(self, name: str, value: str | bytes) -> str:
        """Look for a value, and for the lines of one that has several."""
        data = value.encode() if isinstance(value, str) else value
        self.values[name] = data
        for number, line in enumerate(data.split(b"\n")):
            if len(line) > 2 * _LEAST and line != data and b"-----" not in line:
                self.values[f"{name}, line {number}"] = line
        return data.decode()

    def found(self, places: Iterable[tuple[str, bytes]]) -> dict[str, set[str]]:
        """Return which of them is where: name to places."""
        wanted = {name: forms(value) for name, value in self.values.items()}
        hits: dict[str, set[str]] = {}
        for place, data in places:
            for name, needles in wanted.items():
                if any(needle in data for needle in needles):
                    hits.setdefault(name, set()).add(place)
        return hits


class Processes:
    """Samples the command line and the environment of every process with a mark, while it runs."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seen: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    environ = (folder / "environ").read_bytes()
                    if self._mark in environ:
                        told = (folder / "cmdline").read_bytes() + b"\0" + environ
                        self.seen[f"process {folder.name}: {told[:80]!r}"] = told


def files(folder: Path, *, but: Iterable[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Yield every file below a folder, except those that are named."""
    left_out = set(but)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in left_out and not path.is_symlink():
            yield f"file {path.relative_to(folder)}", path.read_bytes()


def tables(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every row of every table of a SQLite file."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for name in names:
            for row in db.execute(f'SELECT * FROM "{name}"'):  # noqa: S608 - its own names
                yield f"table {name}", b"\0".join(_as_bytes(value) for value in row)


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


ANSWERS = {
    "flow runs": "flow_runs/filter",
    "task runs": "task_runs/filter",
    "logs": "logs/filter",
    "artifacts": "artifacts/filter",
    "blocks": "block_documents/filter",
    "deployments": "deployments/filter",
    "variables": "variables/filter",
}


def answers(url: str, auth: str) -> Iterator[tuple[str, bytes]]:
    """Yield what Prefect's API says of everything, page after page."""
    for name, path in ANSWERS.items():
        offset = 0
        while True:
            data = _sent(f"{url}/{path}", auth, {"limit": _PAGE, "offset": offset})
            yield f"API {name}", data
            offset += _PAGE
            if len(json.loads(data)) < _PAGE:
                break
    data = _sent(f"{url}/events/filter", auth, {"limit": 50})
    yield "API events", data
    while further := json.loads(data)["next_page"]:
        data = _sent(further, auth)
        yield "API events", data


def _sent(url: str, auth: str, body: dict[str, Any] | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": basic(auth)}
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - http on loopback
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 - http on loopback
        return bytes(reply.read())
