"""Google's errors, told as ours: what happened and what to do, without row keys and values."""

from typing import Final

from google.api_core.exceptions import GoogleAPICallError
from google.rpc.error_details_pb2 import ResourceInfo
from grpc import StatusCode

from spanctl.errors import (
    NotFoundError,
    NotPermittedError,
    SpanctlError,
    StatementError,
    TimeOverError,
    UnreachableError,
)
from spanctl.spanner.rpc import Target, status_of
from spanctl.spanner.wording import masked

UNREACHABLE: Final = frozenset({StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED})
NOT_PERMITTED: Final = frozenset({StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED})


class QuotedStatementError(StatementError):
    """A refused statement, with Google's own words for the eyes of the person who typed it.

    ``quoted`` stays in this process: it is no part of ``str()``, of the details or of the pickle,
    because it may hold literals, row keys and values. ``reason`` is what the message ends with of
    them, masked.
    """

    quoted: str = ""
    reason: str = ""


def sql_of(request: object) -> str:
    """Return the SQL of a request; empty for a read."""
    statements = [request, *getattr(request, "statements", ())]
    return ";\n".join(sql for one in statements if (sql := getattr(one, "sql", "")))


def translate(
    error: GoogleAPICallError,
    target: Target,
    doing: str,
    *,
    given: float | None = None,
    sql: str = "",
) -> SpanctlError:
    """Tell an error of Google's client as one of ours; raise the result ``from None``.

    Args:
        error: What the client raised.
        target: The database that was talked to.
        doing: What was being done, to end the sentence "... while ...".
        given: The seconds that there were for it in all, where it is their end that is told.
        sql: The statement that it was about, or the statements.
    """
    if isinstance(error.__cause__, SpanctlError):
        return error.__cause__
    status = status_of(error)
    if status in UNREACHABLE:
        return _silent(status, target, doing, given)
    if status is StatusCode.UNAUTHENTICATED:
        msg = f"Spanner at {target.host} does not accept the credentials while {doing}"
        return NotPermittedError(msg, hint="run: spanctl creds check", status=status.name)
    if status is StatusCode.PERMISSION_DENIED:
        msg = f"Spanner at {target.host} does not permit it to the credentials while {doing}"
        return NotPermittedError(msg, hint="grant a role, or use others", status=status.name)
    if status is StatusCode.NOT_FOUND and _missing_database(error):
        msg = f"there is no database {target.database}"
        hint = "run: spanctl local up" if target.is_emulated else "check: spanctl context show"
        return NotFoundError(msg, hint=hint, status=status.name)
    evaluated = status is StatusCode.OUT_OF_RANGE
    reason = masked(str(error.message), sql, evaluated=evaluated)
    msg = f"Spanner answered {status.name} while {doing}{f': {reason}' if reason else ''}"
    refused = QuotedStatementError(msg, hint=_advice(status), status=status.name)
    refused.quoted, refused.reason = str(error.message), reason
    return refused


def _silent(
    status: StatusCode, target: Target, doing: str, given: float | None
) -> UnreachableError:
    if status is StatusCode.DEADLINE_EXCEEDED and given is not None:
        msg = f"{doing} for {given:g} s, all the time it was given: {target.host} was not done"
        hint = "give it a longer timeout, or make it smaller; if nothing answers, check the network"
        return TimeOverError(msg, hint=hint, status=status.name)
    msg = f"Spanner at {target.host} did not answer while {doing}"
    hint = "run: spanctl local status" if target.is_emulated else "check the network"
    return UnreachableError(msg, hint=hint, status=status.name)


def _advice(status: StatusCode) -> str:
    match status:
        case StatusCode.INVALID_ARGUMENT:
            return "check the SQL, its tables, columns and parameter types"
        case StatusCode.ALREADY_EXISTS:
            return "a row with this key is already there"
        case StatusCode.NOT_FOUND:
            return "check that the table, the row or the parent row exists"
        case StatusCode.FAILED_PRECONDITION | StatusCode.OUT_OF_RANGE:
            return "a constraint or a limit of the schema forbids it"
        case _:
            return ""


def _missing_database(error: GoogleAPICallError) -> bool:
    kinds = {info.resource_type for info in error.details if isinstance(info, ResourceInfo)}
    if kinds:
        return any(kind.endswith((".Database", ".Instance")) for kind in kinds)
    return False


def lost_session(error: GoogleAPICallError) -> bool:
    """Tell whether the server no longer knows the session: another one will do."""
    return status_of(error) is StatusCode.NOT_FOUND and any(
        isinstance(info, ResourceInfo) and info.resource_type.endswith(".Session")
        for info in error.details
    )
