"""Lend credentials to a child process: owner-only files and an endpoint, gone with the lender.

A lender that is killed with SIGKILL leaves its folder behind: the access token in it works until
it expires, the rest is worth nothing without the endpoint. The next lender removes it.
"""

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from spanctl.clock import now
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.lent import DOCUMENT, SUBJECT, TOKEN, document
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.loopback import TokenEndpoint
from spanctl.credentials.rotation.owner import is_gone, this_owner
from spanctl.credentials.secret import Secret
from spanctl.errors import ConfigurationError, NotPermittedError, SpanctlError
from spanctl.privatefiles import write_private
from spanctl.settings import state_home

_PREFIX: Final = "exec-"
_OWNER: Final = "owner"
_LONGEST: Final = 13 * 3600.0
"""Seconds after which a folder that nobody renewed holds nothing live: tokens last 12 h at most."""

_SHORTEST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


@contextmanager
def lend(
    credentials: LiveCredentials,
    *,
    report: Callable[[str], None],
    environ: Mapping[str, str] = os.environ,
) -> Iterator[Path]:
    """Yield a folder of this user's alone from which a child gets tokens while the block runs.

    Args:
        credentials: What is lent; it is renewed in the background.
        report: Told once in a row when it can't be renewed.
        environ: Where the folder's place is looked up: memory (XDG_RUNTIME_DIR) if there is one.

    Raises:
        SpanctlError: There is no live token.
        ConfigurationError: The folder can't be made.
    """
    first = _token(credentials)
    with _folder(environ) as folder:
        subject = Secret(secrets.token_urlsafe(32))
        with TokenEndpoint(subject, lambda: _token(credentials)) as endpoint:
            write_private(folder / SUBJECT, subject.reveal())
            write_private(folder / TOKEN, first.token.reveal())
            universe, quota = credentials.universe_domain, credentials.quota_project_id
            told = document(folder, endpoint.url, universe, quota)
            write_private(folder / DOCUMENT, told.encode())
            with _renewing(credentials, folder, first, report):
                yield folder


def sweep(parent: Path) -> None:
    """Remove the folders of lenders that were killed; those of others that live are left."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another lender may be sweeping too
            old = time.time() - folder.stat().st_mtime > _LONGEST
            if old or is_gone((folder / _OWNER).read_text(encoding="ascii")):
                shutil.rmtree(folder)


def place(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where lenders' folders are: in memory if the system offers that, else on disk."""
    memory = environ.get("XDG_RUNTIME_DIR")
    if (
        memory
        and os.access(memory, os.W_OK | os.X_OK)
        and Path(memory).stat().st_uid == os.getuid()
    ):
        return Path(memory) / "spanctl"
    return state_home(environ) / "lent"


@contextmanager
def _folder(environ: Mapping[str, str]) -> Iterator[Path]:
    parent = place(environ)
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(parent)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        write_private(folder / _OWNER, this_owner().encode())
    except OSError as error:
        msg = f"can't keep files for the child in {parent}: {error.strerror}"
        raise ConfigurationError(msg, hint="set SPANCTL_STATE_HOME to a folder of yours") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _token(credentials: LiveCredentials) -> AccessToken:
    credentials.ensure()
    live = credentials.live
    if live is None:
        msg = "there is no token"
        raise NotPermittedError(msg, hint="see who you are: spanctl creds whoami")
    return live


@contextmanager
def _renewing(
    credentials: LiveCredentials, folder: Path, first: AccessToken, report: Callable[[str], None]
) -> Iterator[None]:
    """Keep the token in the file alive while the block runs."""
    over, writing = threading.Event(), threading.Lock()

    def renew() -> None:
        written, well = first, True
        while not over.wait(_pause(written)):
            try:
                found = _token(credentials)
                with writing:
                    if found.token != written.token and not over.is_set():
                        write_private(folder / TOKEN, found.token.reveal())
                written, well = found, True
            except (SpanctlError, OSError) as error:
                if well and not over.is_set():
                    report(f"the child's credentials can't be renewed: {_reason(error)}")
                well = False

    threading.Thread(target=renew, name="spanctl-lender", daemon=True).start()
    try:
        yield
    finally:
        with writing:  # nothing is written any more once this is left
            over.set()


def _reason(error: SpanctlError | OSError) -> str:
    return error.message if isinstance(error, SpanctlError) else str(error.strerror)


def _pause(token: AccessToken) -> float:
    left = (token.expiry - now()).total_seconds()
    return min(max(left / 4, _SHORTEST_PAUSE), _LONGEST_PAUSE)
