"""Errors that people act on: a stable code, one clear line, and what to do next.

Every error raised on purpose is a :class:`SpanctlError`. They pickle (Prefect sends them between
processes) and never hold a secret, a row key or a parameter value of the user's data.
"""

from typing import Any, ClassVar


class SpanctlError(Exception):
    """Base of every error that spanctl raises on purpose.

    Attributes:
        code: Stable identifier of the kind of error, for scripts (``"not_found"``).
        message: One line that says what is wrong.
        hint: What to do next, usually a command to type; empty when there is nothing to add.
        details: Further JSON-able facts for machines (ids, statuses), never secret.
    """

    code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:  # noqa: ANN401 - JSON-able facts of any type
        """Keep the parts; ``str()`` of the error is the message alone."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by parts, so that an error crosses processes whole."""
        return _rebuild, (type(self), self.message, self.hint, self.details)


def _rebuild(
    cls: type[SpanctlError], message: str, hint: str, details: dict[str, Any]
) -> SpanctlError:
    return cls(message, hint=hint, **details)


class UsageError(SpanctlError):
    """The caller's input can't be used as it is (exit 2)."""

    code = "usage"


class ConfigurationError(SpanctlError):
    """A setting, a context or an installation is missing or wrong (exit 2)."""

    code = "configuration"


class NotIdempotentError(UsageError):
    """Work that may be done more than once was asked for, and twice may do harm (exit 2).

    ``details["reason"]`` says why it may, in words without values.
    """

    code = "not_idempotent"


class KeyRequiredError(UsageError):
    """A write was called where no stable ordinal exists, without ``key=`` (exit 2)."""

    code = "key_required"


class ContextLostError(KeyRequiredError):
    """A write was called without the context of the flow run that is executed here (exit 2)."""

    code = "context_lost"


class ArgumentChangedError(UsageError):
    """A body changed what it was given, and would see something else when run again (exit 2)."""

    code = "argument_changed"


class UnreachableError(SpanctlError):
    """A server did not answer in time (exit 3)."""

    code = "unreachable"


class TimeOverError(UnreachableError):
    """A server was not done when the time that it was given was over (exit 3)."""

    code = "time_over"


class NotPermittedError(SpanctlError):
    """The credentials are missing, expired or not allowed to do this (exit 4)."""

    code = "not_permitted"


class NotFoundError(SpanctlError):
    """What was named does not exist (exit 5)."""

    code = "not_found"


class ConflictError(SpanctlError):
    """The state of things forbids this (exit 6)."""

    code = "conflict"


class AmbiguousIdError(ConflictError):
    """A prefix or a name fits more than one thing (exit 6)."""

    code = "ambiguous_id"


class DuplicateKeyError(ConflictError):
    """A row's key is there already, in the table or on an earlier line of the file (exit 6).

    ``quoted`` shows the key to whoever has the file, on a terminal. It stays in this process: it is
    no part of ``str()``, of the details or of the pickle.
    """

    code = "duplicate_key"
    quoted: str = ""


class KeyReusedError(ConflictError):
    """The operation key was used before with other arguments: neither run nor replayed (exit 6)."""

    code = "key_reused"


class TypedAgainError(ConflictError):
    """The same was typed before, by a run that never ended: nothing was applied (exit 6).

    ``details`` name that run's ``flow_run``, its ``txn_id`` and ``outcome``; for DDL and
    partitioned DML that is AT_LEAST_ONCE, and ``phase`` says how it ended.
    """

    code = "typed_again"


class KeyClosedError(ConflictError):
    """An operator fenced the operation: it never runs again unless it is reopened (exit 6)."""

    code = "key_closed"


class OtherDatabaseError(ConflictError):
    """The ledger belongs to another database: this one is a copy of it, not written to (exit 6)."""

    code = "other_database"


class SchemaVersionError(ConflictError):
    """The ledger's schema is missing, or of a version that this spanctl doesn't know (exit 6)."""

    code = "schema_version"


class VerificationError(SpanctlError):
    """A proof, a signature or a digest does not hold (exit 7)."""

    code = "verification"


class PendingError(SpanctlError):
    """Not finished yet when the waiting time was over (exit 8)."""

    code = "pending"


class OutcomeUnknownError(SpanctlError):
    """Whether it committed can't be known while the database can't be reached (exit 9).

    ``details["txn_id"]`` names the transaction; running the same operation again is safe.
    """

    code = "outcome_unknown"


class TransactionError(SpanctlError):
    """The transaction did not commit, for good (exit 1)."""

    code = "transaction_failed"


class StatementError(TransactionError):
    """Spanner refused a statement or a mutation: the user's data or SQL is at fault (exit 1).

    ``details["status"]`` is the gRPC status name. Google's text is not part of it: it holds
    row keys and values.
    """

    code = "statement_failed"


class LimitError(TransactionError):
    """It is over one of Spanner's limits, and was not sent to be committed (exit 1).

    ``details`` name the ``limit``, what it allows and what was ``counted`` at least.
    """

    code = "limit"


class DeadlineError(TransactionError):
    """The deadline ended while every attempt was aborted: not committed (exit 1)."""

    code = "deadline"


class StepIdleError(TransactionError):
    """The body sent nothing for so long that its locks were released: not committed (exit 1)."""

    code = "step_idle"


class FlowFailedError(SpanctlError):
    """The flow run ended in a failed state (exit 1)."""

    code = "flow_failed"


class FlowCancelledError(SpanctlError):
    """The flow run was cancelled or crashed (exit 12)."""

    code = "flow_cancelled"


class SupersededError(FlowCancelledError):
    """A recovery counts this executor as dead: it writes nothing any more (exit 12).

    Its run may go on in another process, which ``spanctl runs list`` tells.
    """

    code = "superseded"
