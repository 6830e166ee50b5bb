"""Leases: which operations may be in limbo, known to the database before any of them commits.

A row of ``spanctl_intents`` leases a block of ordinals of one step, or a list of keyed calls. A
block is inserted once and never changed but to be closed, so a lease whose reply was lost can be
sent again, and one that lands late reopens nothing.
"""

import json
import os
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from spanctl import processes
from spanctl.errors import VerificationError
from spanctl.ledger.keys import NAMESPACE
from spanctl.spanner import ddl
from spanctl.spanner.applying import apply, mutation
from spanctl.spanner.executors import Enrolment, enrol, guard, heartbeat
from spanctl.spanner.executors import forget as forget_executor
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.receipts import COMMIT_TIMESTAMP

if TYPE_CHECKING:
    from google.cloud.spanner_v1.types import Mutation

    from spanctl.spanner.client import Database

TABLE: Final = ddl.INTENTS
BY_REQUEST: Final = ddl.INTENTS_BY_REQUEST
LARGEST_BLOCK: Final = 64
LARGEST_LIST: Final = 1_000
_TIMEOUT: Final = 30.0
PARTING: Final = 3.0
"""Seconds in which leases are closed, or stay open, which is harmless."""
_DOING: Final = "a lease was written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One leased row: ordinals ``first`` to ``last`` of a step, or a list of keyed calls.

    Attributes:
        executor: Id of the execution that holds the lease.
        prefix: The operation keys' common part, as ``OperationKey.prefix`` writes it.
        first: First leased ordinal; None for keyed calls.
        last: Last leased ordinal; None for keyed calls.
        keys: The keyed calls.
        root_run: Id of the root flow run, if there is one.
        epoch: The epoch in which the executor goes on, where it leases anew what it held before.
        request: Digest of what a person typed, in the first lease of that execution.
    """

    executor: str
    prefix: str
    first: int | None = None
    last: int | None = None
    keys: tuple[str, ...] = ()
    root_run: str | None = None
    epoch: int = 0
    request: str | None = None

    @property
    def intent_id(self) -> str:
        """Primary key: the same for the same lease and no other, spread over the key space."""
        what = [self.executor, self.prefix, self.first, self.last, list(self.keys), self.epoch]
        return str(uuid.uuid5(NAMESPACE, json.dumps(what)))

    def row(self) -> dict[str, Any]:
        """Return the row to insert."""
        return {
            "intent_id": self.intent_id,
            "executor": self.executor,
            "root_run": self.root_run,
            "prefix": self.prefix,
            "first": self.first,
            "last": self.last,
            "keys": list(self.keys) or None,
            "host": processes.here(),
            "pid": os.getpid(),
            "leased_at": COMMIT_TIMESTAMP,
            "open_since": COMMIT_TIMESTAMP,
            **({"request": self.request} if self.request else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The executor that leases, as the commit of its lease needs it.

    Attributes:
        enrolment: Its row, which goes in with its first lease; None where that is there, and in a
            ledger that has no place for it.
        guards: The executors of which none may be superseded; none in such a ledger.
    """

    enrolment: Enrolment | None = None
    guards: tuple[str, ...] = ()

    def apply(self, database: "Database", mutations: "Sequence[Mutation]", doing: str) -> bool:
        """Commit leases; False where one of them, or the executor's row, was there."""
        if self.enrolment:
            made = [self.enrolment.mutation()]
        else:  # the row is read in any case
            made = [heartbeat(one) for one in self.guards[:1]]
        return apply(
            database,
            [*mutations, *made],
            timeout=_TIMEOUT,
            doing=doing,
            admit=guard(self.guards) if self.guards else None,
        )

    def enrolled(self, database: "Database") -> "Holder":
        """Insert the executor's row, if it is not there yet, and return who leases from then on.

        Raises:
            SpanctlError: As :func:`spanctl.spanner.executors.enrol` raises.
        """
        if self.enrolment is None:
            return self
        enrol(database, self.enrolment)
        return Holder(guards=self.enrolment.guards)


def acknowledge(
    database: "Database", intents: Sequence[Intent], holder: Holder | None = None
) -> None:
    """Insert leases and return once Spanner has acknowledged them.

    Args:
        database: Where.
        intents: The leases.
        holder: The executor that leases; None for one without a row.

    Raises:
        SupersededError: The executor, or one that it was started by, counts as dead.
        UnreachableError: Spanner did not acknowledge in time; nothing may commit under them.
        VerificationError: Another lease, or a closed one, stands in the place of one of them.
        SpanctlError: Spanner refused.
    """
    holder = holder or Holder()
    mutations = [mutation("insert", TABLE, intent.row()) for intent in intents]
    if holder.apply(database, mutations, _DOING):
        return
    # One of them is there from an earlier send, so none of the others went in with it.
    holder = holder.enrolled(database)
    for intent, one in zip(intents, mutations, strict=True):
        if not holder.apply(database, [one], _DOING):
            _compare(database, intent)


def _compare(database: "Database", intent: Intent) -> None:
    """Check that the row under a lease's key is that lease, and open."""
    columns = ("executor", "prefix", "first", "last", "keys", "open_since")
    keys = KeySet(keys=[[intent.intent_id]])
    for executor, prefix, first, last, named, since in database.read(TABLE, columns, keys):
        found = (executor, prefix, first, last, tuple(named or ()))
        if found == (intent.executor, intent.prefix, intent.first, intent.last, intent.keys):
            if since is not None:
                return
            break
    msg = f"the lease {intent.intent_id} of {intent.prefix} is not there as it was written"
    raise VerificationError(msg, hint="look at what is open: spanctl txn list; then run it again")


def closing(intent_ids: Sequence[str]) -> "list[Mutation]":
    """Return what closes leases, to go with another commit."""
    closed = {"open_since": None, "closed_at": COMMIT_TIMESTAMP}
    return [mutation("update", TABLE, {"intent_id": one, **closed}) for one in intent_ids]


def close(
    database: "Database",
    intent_ids: Sequence[str],
    *,
    ended: Collection[str] = (),
    executors: Collection[str] = (),
    guards: Sequence[str] = (),
) -> None:
    """Mark leases as closed: none of their calls is in limbo.

    Args:
        database: Where.
        intent_ids: The leases.
        ended: Those of them with a request that their own executor saw to its end: who asks for
            the same again need not be told of it.
        executors: Executors that have none left, whose rows go with them.
        guards: The executors of which none may be superseded, where one closes its own.

    Raises:
        SpanctlError: Spanner could not be reached or refused; they stay open, which is harmless.
    """
    closed = {"open_since": None, "closed_at": COMMIT_TIMESTAMP}
    rows = [
        {"intent_id": one, **closed, **({"request": None} if one in ended else {})}
        for one in intent_ids
    ]
    mutations = [mutation("update", TABLE, row) for row in rows]
    for one in executors:
        mutations += forget_executor(one)
    admit = guard(guards, parting=True) if guards else None
    apply(database, mutations, timeout=PARTING, doing=_DOING, settling=True, admit=admit)


def forget(database: "Database", intent_id: str, *, close: bool, timeout: float = _TIMEOUT) -> None:
    """Take away what was typed from a lease: nobody needs to be told of it any more.

    Args:
        database: Where.
        intent_id: The lease.
        close: Whether it is closed as well.
        timeout: Seconds to try.

    Raises:
        SpanctlError: Spanner could not be reached or refused.
    """
    closed = {"open_since": None, "closed_at": COMMIT_TIMESTAMP} if close else {}
    row = mutation("update", TABLE, {"intent_id": intent_id, "request": None, **closed})
    apply(database, [row], timeout=timeout, doing=_DOING, settling=True)
