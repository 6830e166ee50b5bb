"""A small pool of regular, labelled sessions for writing; one multiplexed session for reading."""

import itertools
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.types import Session

from spanctl.clock import monotonic
from spanctl.errors import UnreachableError
from spanctl.spanner.ending import await_end
from spanctl.spanner.failures import translate
from spanctl.spanner.retrying import Pauses, patience, read_again
from spanctl.spanner.rpc import Rpc, Target

if TYPE_CHECKING:
    from spanctl.spanner.binding import Binding

MAX_SESSIONS = 64
_CREATE_TIMEOUT = 30.0
_DELETE_TIMEOUT = 1.0
"""Seconds for all of them: nobody waits longer for a server that is silent at the end."""
_IDLE_LIMIT = 45 * 60.0
"""The server forgets a session that was idle for an hour."""


def _labels() -> dict[str, str]:
    host = re.sub(r"[^a-z0-9_-]", "-", socket.gethostname().lower())[:63]
    return {"client": "spanctl", "host": host, "pid": str(os.getpid())}


class SessionPool:
    """Sessions of one database; thread-safe.

    Multiplexed sessions can't be labelled, listed or deleted, and the emulator mixes up concurrent
    read-write transactions on them: they only read here.
    """

    def __init__(self, rpc: Rpc, target: Target, binding: "Binding") -> None:
        """Keep what is needed to create sessions; none is created yet."""
        self._rpc = rpc
        self._target = target
        self._binding = binding
        self._numbers = itertools.count(1)
        self._newest = 0
        self._free: list[tuple[_Session, float]] = []
        self._lost: deque[_Session] = deque()
        self._owner = os.getpid()
        self._in_use = 0
        self._reader: Session | None = None
        self._changed = threading.Condition()
        self._reading = threading.Lock()

    def _create(self, *, multiplexed: bool, timeout: float = _CREATE_TIMEOUT) -> Session:
        pauses = Pauses(monotonic() + min(timeout, patience(self._rpc)))
        while True:
            try:
                return self._rpc.create_session(
                    labels=_labels(),
                    multiplexed=multiplexed,
                    timeout=min(timeout, _CREATE_TIMEOUT),
                )
            except GoogleAPICallError as error:
                if not read_again(error) or not pauses.take(error):
                    raise translate(error, self._target, "a session was opened") from None

    def _create_writer(self, timeout: float = _CREATE_TIMEOUT) -> "_Session":
        created = self._create(multiplexed=False, timeout=timeout)
        await_end(self)
        with self._changed:
            self._newest = next(self._numbers)
            return _Session(created, self._newest)

    @contextmanager
    def writer(self, timeout: float, *, commits: bool = True) -> Iterator["Lease"]:
        """Lend a regular session; it goes back to the pool unless it was marked as lost.

        Args:
            timeout: Seconds to wait for one.
            commits: Whether the borrower commits: then it is made sure first that the database is
                the one that its ledger belongs to.

        Raises:
            UnreachableError: No session became free, or none could be created, in time.
            ConflictError: It is another database.
            SpanctlError: The server refused to create one.
        """
        lease = Lease(self._take(timeout), commits=commits)
        try:
            self.admit(lease, timeout)
            yield lease
        finally:
            self._give_back(lease)

    def admit(self, lease: "Lease", timeout: float) -> None:
        """Return when a borrower may commit: the database is still the one that it was.

        Raises:
            ConflictError: It is another one.
            SpanctlError: It could not be read.
        """
        if lease.commits:
            self._binding.admit(lease.session.number, self._newest, timeout=timeout)

    def _take(self, timeout: float) -> "_Session":
        deadline = monotonic() + timeout
        with self._changed:
            while not self._free and self._in_use >= MAX_SESSIONS:
                if not self._changed.wait(deadline - monotonic()):
                    msg = f"all {MAX_SESSIONS} sessions stayed in use for {timeout:.0f} s"
                    raise UnreachableError(msg, hint="run fewer transactions side by side")
            self._in_use += 1
            while self._free:
                session, since = self._free.pop()
                if monotonic() - since < _IDLE_LIMIT:
                    return session
        try:
            return self._create_writer(min(timeout, _CREATE_TIMEOUT))
        except BaseException:
            with self._changed:
                self._in_use -= 1
                self._changed.notify()
            raise

    def _give_back(self, lease: "Lease") -> None:
        with self._changed:
            self._in_use -= 1
            if lease.lost:
                self._part_with(lease.session)
            else:
                self._free.append((lease.session, monotonic()))
            self._changed.notify()

    @property
    def is_idle(self) -> bool:
        """Whether no session is on loan, so that no transaction is open."""
        return self._in_use == 0

    def _part_with(self, session: "_Session") -> None:
        """Keep in mind what is used no more: by the end, its transaction may have ended."""
        self._lost.append(session)
        if len(self._lost) > MAX_SESSIONS:
            self._rpc.opened.forget(self._lost.popleft().name)

    def exchange(self, lease: "Lease", *, timeout: float = _CREATE_TIMEOUT) -> None:
        """Give the borrower another session for one that is lost.

        Args:
            lease: What the borrower holds.
            timeout: Seconds to wait for the new one.

        Raises:
            ConflictError: What answers there now is another database.
            SpanctlError: The server could not be reached or refused to create it.
        """
        lease.lost = True
        fresh = self._create_writer(timeout)
        with self._changed:
            self._part_with(lease.session)
        lease.session = fresh
        lease.lost = False
        self.admit(lease, timeout)

    def reader(self, timeout: float = _CREATE_TIMEOUT) -> str:
        """Return the name of the session to read with.

        Args:
            timeout: Seconds to wait for it, where there is none yet.

        Raises:
            SpanctlError: The server could not be reached or refused to create it.
        """
        if (reader := self._reader) is not None:
            return str(reader.name)
        if not self._reading.acquire(timeout=timeout):
            msg = f"Spanner at {self._target.host} did not answer while a session was opened"
            raise UnreachableError(msg, hint="check that it can be reached, then try again")
        try:
            if self._reader is None:
                self._reader = self._create(multiplexed=True, timeout=timeout)
                await_end(self)
            return str(self._reader.name)
        finally:
            self._reading.release()

    def forget_reader(self) -> None:
        """Have the next read create a session anew."""
        self._reader = None

    def close(self) -> None:
        """Delete the sessions that nobody uses, within a second; a forked child deletes none.

        What fails, and what may have an open transaction, is left to the server's idle limit.
        """
        if os.getpid() != self._owner:
            return
        with self._changed:
            unused = [one.created for one in (*(session for session, _ in self._free), *self._lost)]
            self._free.clear()
            self._lost.clear()
            reader, self._reader = self._reader, None
        if reader is not None and not reader.multiplexed:  # as an emulator makes it, whatever it is
            unused.append(reader)  # asked for
        idle = [one for one in unused if not self._rpc.opened.is_any_in(one.name)]
        self._rpc.delete_sessions(idle, timeout=_DELETE_TIMEOUT)


@dataclass(frozen=True, slots=True)
class _Session:
    """A session as it was created, and its number in the order in which they were created here."""

    created: Session
    number: int

    @property
    def name(self) -> str:
        """Its name."""
        return self.created.name


class Lease:
    """A session on loan. ``lost`` tells the pool not to take it back."""

    __slots__ = ("commits", "lost", "session")

    def __init__(self, session: _Session, *, commits: bool) -> None:
        """Lend this session."""
        self.session = session
        self.commits = commits
        self.lost = False

    @property
    def name(self) -> str:
        """The session's name."""
        return self.session.name
