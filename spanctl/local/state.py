"""What the stack remembers of itself: one folder, owner-only, with one small JSON file."""

import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from spanctl import privatefiles
from spanctl.clock import parse_rfc3339, rfc3339
from spanctl.errors import ConfigurationError, ConflictError, UsageError
from spanctl.local import logs

_VERSION: Final = 1
_LOCK_WAIT: Final = 180.0
_TEMPORARY: Final = "spanctl-"
_LEFT: Final = re.compile(
    r"\.(stack\.json|temporary|prefect-auth|prefect\.html|logs|prefect-home|identity)\.[0-9]+"
)
_ELSEWHERE: Final = "it was written by another version of spanctl"


@dataclass(frozen=True, slots=True)
class Record:
    """A part that was started.

    Attributes:
        pid: Its process, leader of its own session.
        identity: What tells that process from a later one with the same pid.
        endpoint: Where it answers; empty for one that doesn't listen.
        started_at: When it was started.
        fingerprint: Digest of how it was started.
        cleanup: Command that removes what a killed process leaves behind; empty for none.
        log_offset: Where in its log this start begins, in bytes.
    """

    pid: int
    identity: str
    endpoint: str
    started_at: datetime
    fingerprint: str
    cleanup: tuple[str, ...] = ()
    log_offset: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """Everything that is remembered between two commands.

    Attributes:
        parts: Part name to the record of its last start.
        external: Part name to the endpoint of what somebody else runs in its place.
        ports: Part name to the port that it had, to be had again.
        ledger_id: The ledger of the database; None when no database was made since ``down``.
    """

    parts: Mapping[str, Record] = field(default_factory=dict)
    external: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    ledger_id: str | None = None

    def with_part(self, name: str, record: Record | None) -> "State":
        """Return a copy with this record (None: without one)."""
        rest = {key: value for key, value in self.parts.items() if key != name}
        return replace(self, parts={**rest, name: record} if record else rest)

    def to_json(self) -> str:
        """Write it as JSON."""
        parts = {
            name: {**asdict(record), "started_at": rfc3339(record.started_at)}
            for name, record in self.parts.items()
        }
        data = {
            "version": _VERSION,
            "parts": parts,
            "external": dict(self.external),
            "ports": dict(self.ports),
            "ledger_id": self.ledger_id,
        }
        return json.dumps(data, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read it from JSON.

        Raises:
            ValueError: The text is none of ours.
        """
        data = json.loads(text)
        version = data.get("version") if isinstance(data, dict) else None
        if version != _VERSION:
            msg = _ELSEWHERE if isinstance(version, int) else "none of ours"
            raise ValueError(msg)
        try:
            return cls(
                parts={name: _record(values) for name, values in data["parts"].items()},
                external={str(name): str(at) for name, at in data["external"].items()},
                ports={str(name): int(port) for name, port in data["ports"].items()},
                ledger_id=data["ledger_id"],
            )
        except (KeyError, TypeError, AttributeError, UsageError) as error:
            msg = "incomplete"
            raise ValueError(msg) from error


def _record(values: dict[str, Any]) -> Record:
    return Record(
        pid=int(values["pid"]),
        identity=str(values["identity"]),
        endpoint=str(values["endpoint"]),
        started_at=parse_rfc3339(values["started_at"]),
        fingerprint=str(values["fingerprint"]),
        cleanup=tuple(str(word) for word in values["cleanup"]),
        log_offset=int(values["log_offset"]),
    )


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder that the stack lives in."""

    path: Path

    @property
    def prefect_home(self) -> Path:
        """Prefect's own home: the server's database, results, the UI's files."""
        return self.path / "prefect-home"

    @property
    def temporary(self) -> Path:
        """Where the parts and their flow runs work, and keep what is for now only, until ``down``.

        It lies among the machine's temporary files, not in this folder: Prefect copies a
        deployment's folder to where a run works, and to where the worker does when a run crashed.
        That folder may hold this one; the copy would be copied, too, and over the stack's files.

        Raises:
            ConfigurationError: It is not there, or is another user's by now.
        """
        if (found := self._own_temporary()) is None:
            msg = f"what {self._temporary} names is no folder of this stack's"
            raise ConfigurationError(msg, hint="run: spanctl local up")
        return found

    def _own_temporary(self) -> Path | None:
        """Return the folder for what is for now only, if it is this stack's and nobody else's.

        The machine's temporary files are anybody's: after a restart, or where the file that names
        it was cut short, another folder may have its name, or none.
        """
        try:
            found = Path(self._temporary.read_text(encoding="utf-8"))
            status = found.lstat()
        except (OSError, UnicodeDecodeError, ValueError):
            return None
        is_named = found.is_absolute() and found.name.startswith(_TEMPORARY)
        is_mine = status.st_uid == os.geteuid() and not status.st_mode & 0o077
        return found if is_named and stat.S_ISDIR(status.st_mode) and is_mine else None

    @property
    def _temporary(self) -> Path:
        return self.path / "temporary"

    @property
    def auth(self) -> Path:
        """The file with what opens the stack's own Prefect server; until ``down``."""
        return self.path / "prefect-auth"

    @property
    def page(self) -> Path:
        """The file that opens a page of that server, signed in; until ``down``."""
        return self.path / "prefect.html"

    @property
    def identity(self) -> Path:
        """Secrets, service accounts and certificates: they outlive ``down``."""
        return self.path / "identity"

    @property
    def state_file(self) -> Path:
        """The JSON file."""
        return self.path / "stack.json"

    def log(self, part: str) -> Path:
        """Return the file that a part's output goes to."""
        return self.path / "logs" / f"{part}.log"

    def create(self) -> None:
        """Make the folder and those inside it, for the owner alone.

        Raises:
            ConfigurationError: They can't be made.
        """
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.path, self.path / "logs", self.prefect_home):
                folder.mkdir(mode=0o700, exist_ok=True)
                _check_owner(folder, folder.stat())
                folder.chmod(0o700)
            if self._own_temporary() is None:
                made = tempfile.mkdtemp(prefix=_TEMPORARY)
                privatefiles.write_private(self._temporary, made.encode())

    def tidy(self) -> None:
        """Remove what was for now only, and what a killed process left.

        Raises:
            ConfigurationError: It can't be removed.
        """
        with writing(self.path, "remove"):
            self.page.unlink(missing_ok=True)
            self.auth.unlink(missing_ok=True)
            self._remove_left()
            if (found := self._own_temporary()) is not None:
                shutil.rmtree(found)
            self._temporary.unlink(missing_ok=True)

    @contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Keep every other ``up``, ``down`` and ``reset`` of this stack out of the block.

        Args:
            waiting: Called once if somebody else holds the lock.

        Raises:
            ConflictError: The lock was not had within three minutes.
            ConfigurationError: The folder can't be written, or is another user's.
        """
        with writing(self.path):
            _check_owner(self.path, self.path.stat())
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            self._lock(handle, waiting)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int, waiting: Callable[[], None]) -> None:
        deadline = time.monotonic() + _LOCK_WAIT
        said = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    waiting()
                    said = True
                if time.monotonic() > deadline:
                    msg = "another spanctl is working on the local stack"
                    raise ConflictError(msg, hint="wait for it, or end it") from None
                time.sleep(0.1)
            else:
                return

    def load(self) -> State:
        """Read the state; nothing remembered is an empty one.

        Raises:
            ConfigurationError: The file can't be read, is damaged, or another user's, who would
                name programs in it that are run here.
        """
        try:
            with self.state_file.open(encoding="utf-8") as stream:
                _check_owner(self.state_file, os.fstat(stream.fileno()))
                return State.from_json(stream.read())
        except (FileNotFoundError, NotADirectoryError):
            return State()
        except (OSError, ValueError) as error:
            msg = f"can't read {self.state_file}: {_reason(error)}"
            hint = "run: spanctl local down (it ends the stack without that file, and removes it)"
            raise ConfigurationError(msg, hint=hint) from error

    def save(self, state: State) -> None:
        """Write the state, whole or not at all.

        Raises:
            ConfigurationError: It can't be written.
        """
        write_private(self.state_file, state.to_json())

    def rotate(self, part: str) -> int:
        """Put a log that grew large aside; return where the next start begins in it, in bytes.

        Raises:
            ConfigurationError: The folder can't be written.
        """
        log = self.log(part)
        with writing(log):
            size = log.stat().st_size if log.exists() else 0
            if size < logs.LARGEST:
                return size
            log.replace(logs.aside(log))
        return 0

    def remove(self) -> None:
        """Remove what was kept. The lock's file stays: another process may wait on it.

        Each folder goes at once or stays whole, wherever this is killed: with half of it the next
        stack would begin with what this one has forgotten.

        Raises:
            ConfigurationError: Something can't be removed.
        """
        self.tidy()
        with writing(self.path, "remove"):
            for folder in (self.path / "logs", self.prefect_home, self.identity):
                if os.path.lexists(folder):
                    folder.rename(folder.with_name(f".{folder.name}.{os.getpid()}"))
            self._remove_left()
            self.state_file.unlink(missing_ok=True)

    def _remove_left(self) -> None:
        """Remove what was written or removed when a process was killed, and nothing else."""
        for left in self.path.iterdir():
            if _LEFT.fullmatch(left.name):
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink()


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        msg = f"{path} is another user's"
        raise ConfigurationError(msg, hint="SPANCTL_STATE_HOME names another folder")


def _reason(error: OSError | ValueError) -> str | None:
    if isinstance(error, OSError):
        return error.strerror
    return _ELSEWHERE if str(error) == _ELSEWHERE else "it is damaged"


@contextmanager
def writing(path: Path, verb: str = "write") -> Iterator[None]:
    """Turn whatever the file system refuses into one clear line."""
    try:
        yield
    except OSError as error:
        msg = f"can't {verb} {error.filename or path}: {error.strerror}"
        raise ConfigurationError(msg, hint="SPANCTL_STATE_HOME names another folder") from error


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all.

    Raises:
        ConfigurationError: It can't be written.
    """
    with writing(path):
        privatefiles.write_private(path, text.encode())


def tail(path: Path, lines: int, offset: int = 0) -> tuple[str, ...]:
    """Return the last lines of a file, from ``offset`` (in bytes) on; none if there is no file."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(min(offset, size), size - 512 * (lines + 1)))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ()
    found = text.splitlines()
    return tuple(found[-lines:]) if lines else ()
