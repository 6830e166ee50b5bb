"""Single commits of mutations that may be applied twice: leases, fences, heartbeats, reopenings."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.types import CommitRequest, KeySet, Mutation, TransactionOptions
from google.protobuf.struct_pb2 import ListValue
from grpc import StatusCode

from spanctl import shelter
from spanctl.clock import monotonic
from spanctl.spanner import values
from spanctl.spanner.attempt import AttemptLostError
from spanctl.spanner.failures import lost_session, translate
from spanctl.spanner.opened import OVER
from spanctl.spanner.retrying import SILENCE, Pauses, write_again
from spanctl.spanner.rpc import status_of
from spanctl.spanner.transaction import Transaction

if TYPE_CHECKING:
    from spanctl.spanner.client import Database
    from spanctl.spanner.sessions import Lease

_READ_WRITE: Final = TransactionOptions(read_write=TransactionOptions.ReadWrite())
_RPC_TIMEOUT: Final = 10.0
_RENEWING: Final = 1.0
_PAUSE: Final = 0.01
_LEAST: Final = 0.001


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


def deletion(table: str, key: Sequence[Any]) -> Mutation:
    """Return the mutation that deletes one row; it is no error where there is none."""
    listed = ListValue(values=[values.encode(value) for value in key])
    return Mutation(delete=Mutation.Delete(table=table, key_set=KeySet(keys=[listed])))


def apply(  # noqa: PLR0913 - one commit, told in full
    database: "Database",
    mutations: Sequence[Mutation],
    *,
    timeout: float,
    doing: str,
    settling: bool = False,
    admit: Callable[[Transaction], None] | None = None,
) -> bool:
    """Commit idempotent mutations, again while the reply is missing; False where a row was there.

    A single-use commit may be applied twice; these mutations don't mind.

    Args:
        database: Where.
        mutations: What to commit.
        timeout: Seconds to try; a server that stays silent gets
            :data:`~spanctl.spanner.retrying.SILENCE` at most, one that aborts all of them.
        doing: What is being done, to end the sentence "... while ...".
        settling: Whether an outcome depends on it: then it is gone on with, within its time, also
            where the work that it is done for is to end.
        admit: Reads, in the transaction of the commit, whether it may be; raises where it may not.

    Raises:
        Stopped: That work is to end.
        UnreachableError: Spanner did not answer in time; it may be applied all the same.
        SpanctlError: Spanner refused.
    """
    deadline = monotonic() + timeout
    silent = monotonic() + min(timeout, SILENCE)
    pauses = Pauses(deadline, first=_PAUSE)
    refused = False
    with database.sessions.writer(timeout) as session:
        while True:
            if not settling:
                shelter.check()  # what it cancels shall not be sent again
            try:
                left = min(max(_LEAST, deadline - monotonic()), _RPC_TIMEOUT)
                _send(database, session, mutations, admit, left)
            except GoogleAPICallError as error:
                status = status_of(error)
                lost = lost_session(error)
                if status is StatusCode.ALREADY_EXISTS:
                    return False
                if lost:
                    database.renew(session, timeout=max(_RENEWING, silent - monotonic()))
                # The token was renewed: once more will do, or never.
                renewed = status is StatusCode.UNAUTHENTICATED and not refused
                refused |= renewed
                passing = lost or renewed or write_again(error)
                until = deadline if status is StatusCode.ABORTED else silent
                if not passing or not pauses.take(error, until=until):
                    raise translate(error, database.target, doing) from None
            else:
                return True


def _send(
    database: "Database",
    session: "Lease",
    mutations: Sequence[Mutation],
    admit: Callable[[Transaction], None] | None,
    timeout: float,
) -> None:
    """Commit once; what admits it is read in the same transaction."""
    request = CommitRequest(session=session.name, mutations=mutations)
    if admit is None:
        request.single_use_transaction = _READ_WRITE
        database.rpc.commit(request, timeout=timeout)
        return
    transaction = Transaction(
        database.rpc,
        database.target,
        session.name,
        txn_id="",
        tag=None,
        deadline=monotonic() + timeout,
    )
    try:
        admit(transaction)
        transaction.conclude()
        request.transaction_id = transaction.id
        database.rpc.commit(request, timeout=timeout)
        transaction.over()
    except AttemptLostError as lost:
        if status_of(lost.cause) is not StatusCode.ABORTED:
            transaction.rollback()
        raise lost.cause from None
    except GoogleAPICallError as error:
        if status_of(error) is StatusCode.ABORTED:
            transaction.over()
        elif status_of(error) in OVER:
            transaction.rollback()
        else:
            session.lost = True  # its transaction may still be open there
        raise
    except BaseException:
        transaction.rollback()
        raise
    finally:
        session.lost |= transaction.orphaned
