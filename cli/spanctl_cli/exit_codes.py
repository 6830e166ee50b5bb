"""The exit codes, in one table, and the one map from errors to them."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from spanctl import errors


class ExitCode(IntEnum):
    """What an exit code of spanctl means; scripts rely on it."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_PERMITTED = 4
    NOT_FOUND = 5
    CONFLICT = 6
    VERIFICATION_FAILED = 7
    PENDING = 8
    UNKNOWN = 9
    DENIED = 10
    REJECTED = 11
    CANCELLED = 12
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.DONE: "done; with `--detach`: accepted",
    ExitCode.FAILED: "failed; nothing is committed that the receipts don't list",
    ExitCode.USAGE: "usage or configuration",
    ExitCode.UNREACHABLE: "a server can't be reached",
    ExitCode.NOT_PERMITTED: "not authenticated, or not permitted",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.CONFLICT: "conflict, failed precondition, or a closed operation key",
    ExitCode.VERIFICATION_FAILED: "verification failed",
    ExitCode.PENDING: "pending: not finished when the waiting time was over",
    ExitCode.UNKNOWN: "outcome UNKNOWN: the database can't be reached to tell",
    ExitCode.DENIED: "denied by policy (reserved)",
    ExitCode.REJECTED: "rejected by an approver (reserved)",
    ExitCode.CANCELLED: "the flow run was cancelled or crashed",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
    ExitCode.TERMINATED: "terminated (SIGTERM)",
}

ERRORS: Final[tuple[tuple[type[errors.SpanctlError], ExitCode], ...]] = (
    (errors.UsageError, ExitCode.USAGE),
    (errors.ConfigurationError, ExitCode.USAGE),
    (errors.UnreachableError, ExitCode.UNREACHABLE),
    (errors.NotPermittedError, ExitCode.NOT_PERMITTED),
    (errors.NotFoundError, ExitCode.NOT_FOUND),
    (errors.ConflictError, ExitCode.CONFLICT),
    (errors.VerificationError, ExitCode.VERIFICATION_FAILED),
    (errors.PendingError, ExitCode.PENDING),
    (errors.OutcomeUnknownError, ExitCode.UNKNOWN),
    (errors.FlowCancelledError, ExitCode.CANCELLED),
    (errors.SpanctlError, ExitCode.FAILED),
)
"""Error class to exit code; the first that fits counts, so subclasses go before their bases."""


_WORST_FIRST: Final = (
    ExitCode.UNKNOWN,
    ExitCode.VERIFICATION_FAILED,
    ExitCode.FAILED,
    ExitCode.CANCELLED,
    ExitCode.DENIED,
    ExitCode.REJECTED,
    ExitCode.NOT_PERMITTED,
    ExitCode.UNREACHABLE,
    ExitCode.CONFLICT,
    ExitCode.NOT_FOUND,
    ExitCode.USAGE,
    ExitCode.PENDING,
)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the code that a command with several targets ends with.

    First what may need an operator (an open outcome), then what failed, then what was not done, and
    last what only goes on.
    """
    found = set(codes)
    return next((code for code in _WORST_FIRST if code in found), ExitCode.DONE)


def of(error: errors.SpanctlError) -> ExitCode:
    """Return the exit code of an error."""
    return next(code for kind, code in ERRORS if isinstance(error, kind))


def markdown() -> str:
    """Return the table of exit codes as the README shows it."""
    rows = [f"| {code.value} | {MEANINGS[code]} |" for code in ExitCode]
    return "\n".join(["| code | meaning |", "|---:|---|", *rows])
