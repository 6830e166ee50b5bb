"""Which database is written to: found out before the first write, and anew where it may be another.

A ledger's rows go along with every copy of a database, and a server that comes back at the same
address may hold another one. So no session is lent for writing before the ledger was read *after*
that session was created: should the database be replaced later, the session goes with it. A session
that is found lost, whoever finds it, makes all others count as not looked at.

An emulator numbers its sessions from 1, so that those of the one before may be valid in the next.
To come back it takes longer than a look there is good for.
"""

import threading
import time
from typing import TYPE_CHECKING, Final

from google.api_core.exceptions import GoogleAPICallError
from grpc import StatusCode

from spanctl.clock import monotonic
from spanctl.errors import ConflictError, UnreachableError
from spanctl.spanner.failures import translate
from spanctl.spanner.identity import Incarnation, LedgerIdentity, read_identity
from spanctl.spanner.rpc import status_of

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_ROUNDS: Final = 5
_ASKING: Final = 5.0
"""Seconds for GetDatabase: who may write need not be allowed to ask it."""
_GOOD: Final = 0.1
"""Seconds for which a look at an emulator is good: started anew, with a ledger, it takes longer."""
_LEAST: Final = 1.0
_HINT: Final = "check what answers there, then try again"
_PAUSE: Final = 0.2


class Binding:
    """What is known of the database behind a :class:`~spanctl.spanner.client.Database`."""

    def __init__(self, database: "Database") -> None:
        """Know nothing yet; nothing is sent."""
        self._database = database
        self._looking = threading.Lock()
        self._state = threading.Lock()
        self._covered = 0
        self._losses = 0
        self._actual: Incarnation | None = None
        self._looked = 0.0

    def lose(self) -> None:
        """Note that a session was found lost: look again before any of them writes."""
        with self._state:
            self._covered = 0
            self._losses += 1
            self._actual = None

    def admit(self, session: int, newest: int, *, timeout: float) -> None:
        """Return when a session may write; it costs nothing once it was looked at.

        Args:
            session: Its number among the sessions created here, from 1.
            newest: The number of the newest one that exists.
            timeout: Seconds to look.

        Raises:
            OtherDatabaseError: The database is a copy of the one that the ledger belongs to.
            ConflictError: It holds another ledger than before.
            SchemaVersionError: It holds none, or of a version that this spanctl doesn't know.
            SpanctlError: It could not be read.
        """
        if self._database.is_installing or self._is_admitted(session):
            return
        deadline = monotonic() + timeout
        if not self._looking.acquire(timeout=timeout):
            msg = f"Spanner at {self._database.target.host} did not say which ledger it holds"
            raise UnreachableError(msg, hint=_HINT)
        try:
            for _ in range(_ROUNDS):
                if self._is_admitted(session):
                    return
                losses, began = self._losses, monotonic()
                self._look(max(_LEAST, deadline - began))
                with self._state:
                    if losses == self._losses:
                        self._covered, self._looked = max(session, newest), began
                        return
            msg = f"Spanner at {self._database.target.host} forgets each session at once"
            raise UnreachableError(msg, hint=_HINT)
        finally:
            self._looking.release()

    def _is_admitted(self, session: int) -> bool:
        emulated = self._database.target.is_emulated
        return session <= self._covered and not (emulated and monotonic() > self._looked + _GOOD)

    def _look(self, timeout: float) -> None:
        found = read_identity(self._database, timeout=timeout)
        try:
            refuse_other(self._database, found)
        except ConflictError:
            self.lose()
            raise
        if found.bound is not None:
            found.refuse_copy(self._actual or self._ask(timeout))

    def _ask(self, timeout: float) -> Incarnation:
        with self._state:
            losses = self._losses
        actual = describe(self._database, timeout=timeout)
        with self._state:
            if losses == self._losses:
                self._actual = actual
        return actual


def refuse_other(database: "Database", found: LedgerIdentity) -> None:
    """Return when a database holds the ledger that this process has found there before.

    Raises:
        ConflictError: It holds another one.
    """
    before = database.ledger_or(found).ledger_id
    if found.ledger_id != before:
        now = f"{database.target.database} holds ledger {found.ledger_id} now"
        msg = f"{now}, and held {before} before"
        hint = "it was made anew, restored or adopted: start another run, in a new process"
        raise ConflictError(msg, hint=hint)


def describe(database: "Database", *, timeout: float = _ASKING) -> Incarnation:
    """Return which database this is: as GetDatabase says, or else as it is configured.

    Raises:
        NotFoundError: There is none.
        SpanctlError: There are no live credentials.
    """
    deadline = monotonic() + min(timeout, _ASKING)
    configured = Incarnation(str(database.target.database), is_told=False)
    while True:
        try:
            found = database.rpc.get_database(timeout=max(0.001, deadline - monotonic()))
        except GoogleAPICallError as error:
            if status_of(error) is StatusCode.NOT_FOUND:
                raise translate(error, database.target, "it was looked for") from None
            if status_of(error) is not StatusCode.UNAVAILABLE or monotonic() + _PAUSE > deadline:
                return configured
            time.sleep(_PAUSE)
        else:
            created = found.create_time
            told = created.rfc3339() if created else None
            return Incarnation(found.name or configured.name, told)
