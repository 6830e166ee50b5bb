"""What opens the stack's own Prefect server: one string, in a file that only its owner reads.

Server, worker, flow runs and commands read it there, each for itself: it is in no argument and no
environment.
"""

import hashlib
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from spanctl.errors import ConfigurationError, UsageError
from spanctl.local.state import Folder, write_private
from spanctl.orchestration.keys import read_file

if TYPE_CHECKING:
    from spanctl.credentials.secret import Secret

VARIABLE: Final = "PREFECT_SERVER_API_AUTH_STRING"
"""Prefect's variable for the string that a server asks for."""

_LONGEST: Final = 1024


def prepare(folder: Folder, environ: Mapping[str, str], *, in_use: bool) -> str:
    """Have the file hold what a person chose for their servers, else what was generated for it.

    A file that others could read, or that is gone, is written anew, and so is one that nothing uses
    any more: while no server listens, whoever takes its port may have been told.

    Args:
        folder: The stack's folder.
        environ: The environment, where Prefect's variable may name the person's own.
        in_use: Whether a process of the stack runs that was told it.

    Returns:
        A digest that changes with the string.

    Raises:
        ConfigurationError: The file can't be written.
        UsageError: What the environment holds is no line of text.
    """
    chosen = environ.get(VARIABLE)
    if chosen and not (chosen.isascii() and chosen.isprintable() and len(chosen) <= _LONGEST):
        msg = f"{VARIABLE} holds no line of ASCII text, which Prefect's server needs"
        raise UsageError(msg, hint=f"unset {VARIABLE}, or write it as USER:PASSWORD")
    kept = read(folder) if in_use else None
    text = kept.reveal_text() if kept else ""
    wanted = chosen or text or f"spanctl:{secrets.token_urlsafe(32)}"
    if wanted != text:
        write_private(folder.auth, wanted)
    return hashlib.sha256(wanted.encode()).hexdigest()


def read(folder: Folder) -> "Secret | None":
    """Return what the file holds; None where it can't be used."""
    try:
        return read_file(folder.auth)
    except ConfigurationError:
        return None
