"""The database of the stack: made, and given its ledger, while the other parts still start."""

import threading
import time
from collections.abc import Callable
from typing import Final

from spanctl.errors import SpanctlError
from spanctl.local.parts import DATABASE, INSTANCE, PROJECT, Endpoints
from spanctl.local.results import Failure, PartEvent, Phase
from spanctl.resources import DatabaseName

NAME: Final = DatabaseName(PROJECT, INSTANCE, DATABASE)
Prepare = Callable[[Endpoints], str]
"""Makes instance, database and ledger where they lack; returns the ledger's id."""


def prepare(endpoints: Endpoints) -> str:
    """Make the instance, the database and the ledger's schema on an emulator; repeatable.

    Returns:
        The ledger's id: another one than before means that the database is a new one.

    Raises:
        SpanctlError: The emulator refused or did not answer.
    """
    from spanctl.spanner import admin, schema
    from spanctl.spanner.client import Database
    from spanctl.spanner.rpc import Target

    target = Target(database=NAME, emulator_host=endpoints.spanner)
    admin.ensure_database(target)
    with Database(target) as database:
        return schema.install(database).ledger_id


class Preparation:
    """``prepare`` in a thread of its own, so that it runs while the server starts.

    Attributes:
        ledger_id: The database's ledger, once there is one.
        failure: Why there is none, once that is settled.
    """

    def __init__(self, prepare: Prepare, endpoints: Endpoints, timeout: float) -> None:
        """Start at once; after ``timeout`` seconds it counts as failed."""
        self.ledger_id: str | None = None
        self.failure: Failure | None = None
        self._settled = False
        self._error: BaseException | None = None
        self._since = time.monotonic()
        self._timeout = timeout
        self._thread = threading.Thread(target=self._run, args=(prepare, endpoints), daemon=True)
        self._thread.start()

    def _run(self, prepare: Prepare, endpoints: Endpoints) -> None:
        try:
            self.ledger_id = prepare(endpoints)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            self._error = error

    def settle(self, progress: Callable[[PartEvent], None]) -> bool:
        """Return whether it has ended or its time is over; the first time, tell how.

        Raises:
            BaseException: What the preparation raised, unless it is a SpanctlError.
        """
        seconds = time.monotonic() - self._since
        if self._settled:
            return True
        if self._thread.is_alive() and seconds < self._timeout:
            return False
        self._settled = True
        if isinstance(self._error, SpanctlError):
            self.failure = Failure("database", self._error.message, self._error.hint)
        elif self._error is not None:
            raise self._error
        elif self.ledger_id is None:
            self.failure = Failure("database", f"it was not made within {self._timeout:.0f} s")
        if self.failure:
            progress(PartEvent("database", Phase.FAILED, seconds, self.failure.reason))
        else:
            progress(PartEvent("database", Phase.READY, seconds, str(NAME)))
        return True
