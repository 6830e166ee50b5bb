"""Leases: which operations may be in limbo, known to the database before any of them commits.

A row of ``spanctl_intents`` leases a block of ordinals of one step, or a list of keyed calls. A
block is inserted once and never changed but to be closed, so a lease whose reply was lost can be
sent again, and one that lands late reopens nothing.
"""

import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.types import CommitRequest, Mutation, TransactionOptions
from google.protobuf.struct_pb2 import ListValue
from grpc import StatusCode

from spanctl.clock import monotonic
from spanctl.ledger.keys import NAMESPACE
from spanctl.spanner import values
from spanctl.spanner.failures import TRANSIENT, lost_session, retry_delay, translate
from spanctl.spanner.receipts import COMMIT_TIMESTAMP
from spanctl.spanner.rpc import status_of

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

TABLE: Final = "spanctl_intents"
LARGEST_BLOCK: Final = 64
LARGEST_LIST: Final = 1_000
_READ_WRITE = TransactionOptions(read_write=TransactionOptions.ReadWrite())
_TIMEOUT: Final = 30.0
_SILENCE: Final = 10.0
"""Seconds after which a server that does not answer is given up; one that aborts gets longer."""
_PARTING: Final = 3.0
"""Seconds in which leases are closed, or stay open, which is harmless."""
_RPC_TIMEOUT: Final = 10.0
_PAUSE: Final = 0.01


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
    """

    executor: str
    prefix: str
    first: int | None = None
    last: int | None = None
    keys: tuple[str, ...] = ()
    root_run: str | None = None

    @property
    def intent_id(self) -> str:
        """Primary key: the same for the same lease, spread over the key space."""
        what = f"{self.first}-{self.last}" if not self.keys else "\n".join(self.keys)
        return str(uuid.uuid5(NAMESPACE, f"{self.executor}\n{self.prefix}\n{what}"))

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
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "leased_at": COMMIT_TIMESTAMP,
            "open_since": COMMIT_TIMESTAMP,
        }


def acknowledge(database: "Database", intents: Sequence[Intent]) -> None:
    """Insert leases and return once Spanner has acknowledged them.

    Raises:
        UnreachableError: Spanner did not acknowledge in time; nothing may commit under them.
        SpanctlError: Spanner refused.
    """
    mutations = [_mutation("insert", intent.row()) for intent in intents]
    if _commit(database, mutations) or len(mutations) == 1:
        return
    # One of them is there from an earlier send, so none of the others went in with it.
    for mutation in mutations:
        _commit(database, [mutation])


def close(database: "Database", intents: Sequence[Intent]) -> None:
    """Mark leases as closed: none of their calls is in limbo.

    Raises:
        SpanctlError: Spanner could not be reached or refused; they stay open, which is harmless.
    """
    closed = [
        {"intent_id": intent.intent_id, "open_since": None, "closed_at": COMMIT_TIMESTAMP}
        for intent in intents
    ]
    _commit(database, [_mutation("update", row) for row in closed], _PARTING)


def insert_once(database: "Database", table: str, row: Mapping[str, Any]) -> bool:
    """Insert a row, also when replies are lost; False where one is there, maybe of this very call.

    Raises:
        SpanctlError: Spanner could not be reached or refused.
    """
    return _commit(database, [_mutation("insert", row, table)])


def _mutation(kind: str, row: Mapping[str, Any], table: str = TABLE) -> Mutation:
    listed = ListValue(values=[values.encode(value) for value in row.values()])
    write = Mutation.Write(table=table, columns=list(row), values=[listed])
    return Mutation(**{kind: write})


def _commit(database: "Database", mutations: Sequence[Mutation], timeout: float = _TIMEOUT) -> bool:
    """Commit idempotent mutations, again while the reply is missing; False where a row was there.

    A single-use commit may be applied twice; these mutations don't mind.
    """
    deadline = monotonic() + timeout
    silent = monotonic() + min(timeout, _SILENCE)
    pause = _PAUSE
    refused = False
    with database.sessions.writer(timeout) as session:
        while True:
            request = CommitRequest(
                session=session.name, single_use_transaction=_READ_WRITE, mutations=mutations
            )
            try:
                database.rpc.commit(request, timeout=min(timeout, _RPC_TIMEOUT))
            except GoogleAPICallError as error:
                status = status_of(error)
                if status is StatusCode.ALREADY_EXISTS:
                    return False  # an earlier send
                lost = lost_session(error)
                if lost:
                    database.renew(session)
                # The token was renewed: once more will do, or never.
                renewed = status is StatusCode.UNAUTHENTICATED and not refused
                refused |= renewed
                passing = lost or renewed or status is StatusCode.ABORTED or status in TRANSIENT
                until = deadline if status is StatusCode.ABORTED else silent
                if not passing or monotonic() > until:
                    raise translate(error, database.target, "a lease was written") from None
                time.sleep(retry_delay(error) or pause)
                pause = min(pause * 2, 1.0)
            else:
                return True
