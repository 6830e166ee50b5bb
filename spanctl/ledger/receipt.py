"""Receipts: what a transaction writes about itself, in its own commit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """The answer to "did it happen?"."""

    COMMITTED = "COMMITTED"
    NOT_COMMITTED = "NOT_COMMITTED"
    UNKNOWN = "UNKNOWN"


class EntryKind(StrEnum):
    """What a row of the ledger says: the transaction committed, or it never can any more."""

    COMMITTED = "COMMITTED"
    FENCED = "FENCED"


class Standing(StrEnum):
    """How sure a statement about a principal is."""

    PROVEN = "proven"
    VOUCHED = "vouched"
    """By an account that several may sign as, and that named the principal."""
    CLAIMED = "claimed"


class StatementKind(StrEnum):
    """What a statement or a mutation does."""

    QUERY = "query"
    READ = "read"
    INSERT = "insert"
    UPDATE = "update"
    INSERT_OR_UPDATE = "insert_or_update"
    REPLACE = "replace"
    DELETE = "delete"
    DDL = "ddl"
    PARTITIONED_DML = "partitioned_dml"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a transaction, however often, or its mutations of one kind on one table.

    Attributes:
        kind: What it does.
        tables: The tables it names, in the order of first mention.
        digest: SHA-256 of the SQL text, hexadecimal; None for mutations.
        sql: The SQL with literals masked; None for mutations.
        parameters: Names of the bound parameters; columns for mutations.
        rows: Rows that it changed, as Spanner counted them; mutations sent; None when not counted.
        times: How often it was executed.
        counts: The rows of each time, in order; one number where they were always the same; empty
            where there was one time, or there are too many.
        more: Whether this only counts statements of a kind, on a table, that the list has no room
            for: their text is not kept.
    """

    kind: StatementKind
    tables: tuple[str, ...] = ()
    digest: str | None = None
    sql: str | None = None
    parameters: tuple[str, ...] = ()
    rows: int | None = None
    times: int = 1
    counts: tuple[int, ...] = ()
    more: bool = False

    @property
    def is_least(self) -> bool:
        """Whether ``rows`` is a lower bound, as Spanner counts partitioned DML."""
        return self.kind is StatementKind.PARTITIONED_DML and self.rows is not None

    @property
    def is_most(self) -> bool:
        """Whether ``rows`` is an upper bound: keys that were to be deleted, were they there."""
        return self.kind is StatementKind.DELETE and self.digest is None and bool(self.rows)

    @property
    def row_counts(self) -> tuple[int, ...]:
        """The rows that it changed each time, or their sum where only that is kept."""
        if self.rows is None:
            return ()
        if len(self.counts) == 1:
            return self.counts * self.times
        return self.counts or (self.rows,)

    def to_json(self) -> dict[str, Any]:
        """Return the statement as JSON-able data, without what is unset."""
        data = {
            "kind": self.kind.value,
            "tables": list(self.tables),
            "digest": self.digest,
            "sql": self.sql,
            "parameters": list(self.parameters),
            "rows": self.rows,
            "times": self.times if self.times > 1 else None,
            "counts": list(self.counts),
            "more": self.more or None,
        }
        return {key: value for key, value in data.items() if value not in (None, [])}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Statement":
        """Read what :meth:`to_json` wrote."""
        return cls(
            kind=StatementKind(data["kind"]),
            tables=tuple(data.get("tables", ())),
            digest=data.get("digest"),
            sql=data.get("sql"),
            parameters=tuple(data.get("parameters", ())),
            rows=data.get("rows"),
            times=data.get("times", 1),
            counts=tuple(data.get("counts", ())),
            more=data.get("more", False),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a transaction comes from and who is behind it.

    What a standing speaks of is *proven* where it says so; all the rest is *claimed*.

    Attributes:
        initiator: Who asked for it: a principal, or ``user@host`` where nobody proved one.
        initiator_standing: Whether an issuer, or a statement that was verified, said so.
        initiator_chain: The service account that signed the statement; empty without one.
        initiator_claim: ``user@host`` where it was asked, or what was said in its place.
        executor: Whose credentials wrote it: a principal, or else the same as ``executor_claim``.
        executor_standing: Whether the issuer of the very token that wrote said so.
        executor_chain: Who stands behind the executor, from the first who asked to the last
            delegate.
        executor_chain_standing: The same as the standing, for the chain.
        executor_claim: ``user@host pid N`` of the process that wrote it.
        attestation: The signed statement of who asked; see :mod:`spanctl.ledger.attestation`.
        root_run: Id of the root flow run.
        flow_run: Id of the flow run that holds the call (a subflow's, or the root's).
        flow: Name of that flow.
        deployment: Id of the root flow run's deployment.
        task_run: Id of the task run.
        task: Name of the task.
        attempt: The orchestrator's attempt, from 1.
        reason: Why, in the person's words.
        tag: Spanner's transaction tag.
    """

    initiator: str | None = None
    initiator_standing: Standing = Standing.CLAIMED
    initiator_chain: tuple[str, ...] = ()
    initiator_claim: str | None = None
    executor: str | None = None
    executor_standing: Standing = Standing.CLAIMED
    executor_chain: tuple[str, ...] = ()
    executor_chain_standing: Standing = Standing.CLAIMED
    executor_claim: str | None = None
    attestation: str | None = None
    root_run: str | None = None
    flow_run: str | None = None
    flow: str | None = None
    deployment: str | None = None
    task_run: str | None = None
    task: str | None = None
    attempt: int | None = None
    reason: str | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One entry of the ledger, as it stands in the database; it is never altered.

    Attributes:
        txn_id: UUIDv5 of the operation key and its epoch.
        kind: COMMITTED, or FENCED for the tombstone that makes "not committed" final.
        commit_timestamp: When it committed, to the microsecond, in UTC.
        operation_key: The operation, as :class:`~spanctl.ledger.keys.OperationKey` writes it.
        epoch: How often the operation was reopened.
        api_transaction_id: Spanner's id of the transaction, hexadecimal.
        provenance: Where it comes from.
        statements: What it did, in order of first mention; equal statements are one.
        arguments_digest: Keyed digest of the arguments; None when there were none to compare.
        result: What the function returned, as JSON text, if it was asked to be kept.
        undoes: The txn ID that this one undoes.
        client_version: The version of spanctl that wrote it.
        step_identity: Which function the operation is; see :mod:`spanctl.ledger.identity`. None
            where nobody said.
    """

    txn_id: str
    kind: EntryKind
    commit_timestamp: datetime
    operation_key: str
    epoch: int = 0
    api_transaction_id: str | None = None
    provenance: Provenance = field(default_factory=Provenance)
    statements: tuple[Statement, ...] = ()
    arguments_digest: str | None = None
    result: str | None = None
    undoes: str | None = None
    client_version: str | None = None
    step_identity: str | None = None

    @property
    def row_counts(self) -> tuple[int, ...]:
        """Rows changed by each statement that changes rows; see :func:`changed_rows`."""
        return changed_rows(self.statements)

    @property
    def rows(self) -> int:
        """Rows changed by all statements together."""
        return sum(self.row_counts)

    @property
    def rows_at_least(self) -> bool:
        """Whether :attr:`rows` is a lower bound, as the counts of partitioned DML are."""
        return any(s.is_least for s in self.statements)

    @property
    def rows_at_most(self) -> bool:
        """Whether :attr:`rows` is an upper bound, as it is where rows were deleted by key."""
        return any(s.is_most for s in self.statements) and not self.rows_at_least


_UNCHANGING = frozenset({StatementKind.QUERY, StatementKind.READ, StatementKind.OTHER})


def changed_rows(statements: Iterable[Statement]) -> tuple[int, ...]:
    """Return the rows changed by each statement that changes rows.

    They are in order, but for equal statements, which are together where the first of them was;
    where very many differ, their sum stands for them.
    """
    return tuple(rows for s in statements if s.kind not in _UNCHANGING for rows in s.row_counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionResult:
    """What a caller gets for a transaction that committed, now or on an earlier attempt.

    Attributes:
        txn_id: The ID to look it up by.
        commit_timestamp: When it committed, in UTC.
        outcome: Always COMMITTED; anything else is raised.
        attempts: How often this call ran the body (0 when the receipt was found first).
        replayed: Whether the commit was made by an earlier attempt, and this value read from its
            receipt.
        row_counts: Rows changed by each changing statement, in order; equal ones together. Where
            there are very many, their sum stands for some.
        result: What the function returned. For a replay it is what the receipt kept: None unless
            keeping was asked for (``keep_result``).
    """

    txn_id: str
    commit_timestamp: datetime
    outcome: Outcome = Outcome.COMMITTED
    attempts: int = 1
    replayed: bool = False
    row_counts: tuple[int, ...] = ()
    result: Any = None
