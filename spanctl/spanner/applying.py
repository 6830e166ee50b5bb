"""Single commits of mutations that may be applied twice: leases, fences, reopenings."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.types import CommitRequest, Mutation, TransactionOptions
from google.protobuf.struct_pb2 import ListValue
from grpc import StatusCode

from spanctl.clock import monotonic
from spanctl.spanner import values
from spanctl.spanner.failures import TRANSIENT, lost_session, retry_delay, translate
from spanctl.spanner.rpc import status_of

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

SILENCE: Final = 10.0
"""Seconds after which a server that does not answer is given up; one that aborts gets longer."""
_READ_WRITE: Final = TransactionOptions(read_write=TransactionOptions.ReadWrite())
_RPC_TIMEOUT: Final = 10.0
_LEAST: Final = 1.0
_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0


def mutation(kind: str, table: str, row: Mapping[str, Any]) -> Mutation:
    """Return a mutation of one row.

    Args:
        kind: ``insert`` or ``update``.
        table: The table.
        row: Column name to value.
    """
    listed = ListValue(values=[values.encode(value) for value in row.values()])
    write = Mutation.Write(table=table, columns=list(row), values=[listed])
    return Mutation(**{kind: write})


def apply(
    database: "Database", mutations: Sequence[Mutation], *, timeout: float, doing: str
) -> bool:
    """Commit idempotent mutations, again while the reply is missing; False where a row was there.

    A single-use commit may be applied twice; these mutations don't mind.

    Args:
        database: Where.
        mutations: What to commit.
        timeout: Seconds to try; a server that stays silent gets :data:`SILENCE` at most.
        doing: What is being done, to end the sentence "... while ...".

    Raises:
        UnreachableError: Spanner did not answer in time; it may be applied all the same.
        SpanctlError: Spanner refused.
    """
    deadline = monotonic() + timeout
    silent = monotonic() + min(timeout, SILENCE)
    pause = _PAUSE
    refused = False
    with database.sessions.writer(timeout) as session:
        while True:
            request = CommitRequest(
                session=session.name,
                single_use_transaction=_READ_WRITE,
                mutations=mutations,
            )
            try:
                database.rpc.commit(request, timeout=min(timeout, _RPC_TIMEOUT))
            except GoogleAPICallError as error:
                status = status_of(error)
                if status is StatusCode.ALREADY_EXISTS:
                    return False
                lost = lost_session(error)
                if lost:
                    database.renew(session, timeout=max(_LEAST, silent - monotonic()))
                # The token was renewed: once more will do, or never.
                renewed = status is StatusCode.UNAUTHENTICATED and not refused
                refused |= renewed
                passing = lost or renewed or status is StatusCode.ABORTED or status in TRANSIENT
                until = deadline if status is StatusCode.ABORTED else silent
                if not passing or monotonic() > until:
                    raise translate(error, database.target, doing) from None
                time.sleep(retry_delay(error) or pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                return True
