"""Who listens on this machine: nothing is sent to another user who has taken a port of ours.

A port is anybody's while nobody listens on it. The kernel tells in ``/proc/net/tcp`` whose a
listener is; where there is no such table, as on macOS, nothing is refused.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN: Final = "0A"
_EVENT: Final = "socket.connect"
_LOCAL: Final = {"127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost"}
_guarded: set[int] = set()


def trust_only_own(url: str) -> None:
    """Have this process connect to the port of a URL on this machine only where its user listens.

    Whatever connects, of whichever library, gets a refused connection where another user listens;
    root alone is let through.
    """
    at = urlsplit(url)
    if at.hostname not in _LOCAL or at.port is None:
        return
    if not _guarded:
        sys.addaudithook(_refuse_strangers)  # it stays for good
    _guarded.add(at.port)


def strangers_on(port: int) -> bool:
    """Whether another user than this one, or root, listens on a port of this machine."""
    return not {0, os.geteuid()}.issuperset(listeners(port) or ())


def _refuse_strangers(event: str, arguments: tuple[Any, ...]) -> None:
    if event != _EVENT:
        return
    address = arguments[1]
    if not isinstance(address, tuple) or address[1] not in _guarded or address[0] not in _LOCAL:
        return
    if strangers_on(address[1]):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "another user listens on that port")


def listeners(port: int) -> list[int] | None:
    """Return the users that listen on a port, one a socket; None where that can't be told."""
    tables = [table for table in _TABLES if table.exists()]
    if not tables:
        return None
    lines = [line for table in tables for line in table.read_text(encoding="ascii").splitlines()]
    rows = (line.split() for line in lines)
    wanted = f":{port:04X}"
    return [int(row[7]) for row in rows if row[3] == _LISTEN and row[1].endswith(wanted)]
