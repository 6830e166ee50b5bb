"""What running SQL gives back, and the one way in which a script's transactions are committed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from spanctl.errors import SpanctlError, StatementError
from spanctl.flows.asking import attested
from spanctl.flows.callsite import Origin
from spanctl.flows.ledgers import refuse_other_ledger
from spanctl.flows.runbooks import in_task, record
from spanctl.flows.runs import registry
from spanctl.flows.script import SqlMode, place
from spanctl.ledger.keys import KEYED
from spanctl.ledger.receipt import StatementKind, TransactionResult
from spanctl.ledger.report import TransactionReport
from spanctl.spanner.sql import SqlStatement
from spanctl.spanner.wording import names

if TYPE_CHECKING:
    from spanctl.spanner.changes import RowChange
    from spanctl.spanner.protocol import Execution
    from spanctl.spanner.rows import ColumnInfo
    from spanctl.spanner.run import Run
    from spanctl.spanner.transaction import Transaction

TAG = "spanctl-sql"
"""Spanner's transaction tag of what runs SQL."""

KINDS = {
    SqlMode.DDL: StatementKind.DDL,
    SqlMode.PARTITIONED: StatementKind.PARTITIONED_DML,
}
"""What the statements of a mode are, whatever their words say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementResult:
    """What one statement did.

    Attributes:
        kind: What it does.
        tables: The tables it names.
        sql: Its text with the literals masked.
        line: The line on which it begins.
        columns: The columns of its rows; none when it returns no rows.
        rows: The rows it returned; None when it returns none, or when they were not kept.
        row_count: Rows that it changed; a lower bound for partitioned DML; None for a query, and
            for what was not executed.
    """

    kind: StatementKind
    tables: tuple[str, ...]
    sql: str
    line: int
    columns: "tuple[ColumnInfo, ...]" = ()
    rows: tuple[tuple[Any, ...], ...] | None = None
    row_count: int | None = None

    @property
    def is_least(self) -> bool:
        """Whether ``row_count`` is a lower bound."""
        return self.kind is StatementKind.PARTITIONED_DML and self.row_count is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlResult:
    """What a script did.

    Attributes:
        mode: How it was run.
        statements: What each statement did, in order.
        transaction: The one transaction; None for queries, DDL, partitioned DML and a dry run.
        entries: For DDL and partitioned DML: the transactions that say *started* and *finished*.
        at_least_once: Whether an effect may have happened more than once.
        operation: The name of DDL's long-running operation.
        idempotent: For partitioned DML, how it is known that it may be applied twice: ``checked``
            or ``assumed``.
        dry_run: Whether it was executed and rolled back, or for DDL only described.
        sample: Of a dry run: some of the rows that would change, before and after.
        seconds: From start to end.
    """

    mode: SqlMode
    statements: tuple[StatementResult, ...]
    transaction: TransactionResult | None = None
    entries: tuple[TransactionResult, ...] = ()
    at_least_once: bool = False
    operation: str | None = None
    idempotent: str | None = None
    dry_run: bool = False
    sample: "tuple[RowChange, ...]" = ()
    seconds: float = 0.0


_open: "dict[str, list[Run]]" = {}
"""Executions of this process that have not closed their leases yet, by the root of their keys."""


_awaiting: "ContextVar[list[Run] | None]" = ContextVar("spanctl_sql_awaiting", default=None)
"""Executions whose end is told to whoever typed them; None where nobody will say so."""


class Awaiting:
    """Executions whose end a person is still to be told."""

    def __init__(self, runs: "list[Run]") -> None:
        """Take them; there may come more."""
        self._runs = runs

    def told(self) -> list[str]:
        """Note that the person is told what came of them, and close what could not be closed.

        Returns:
            The roots of those in whose leases it could not be noted: typed again, they are named.
        """
        failed = []
        for run in self._runs:
            try:
                run.close()
            except SpanctlError:
                failed.append(run.root)
        return list(dict.fromkeys(failed))


@contextmanager
def awaiting() -> Iterator[Awaiting]:
    """Have the runs of the block count as cut off until it is noted that their end was told."""
    runs: list[Run] = []
    token = _awaiting.set(runs)
    try:
        yield Awaiting(runs)
    finally:
        _awaiting.reset(token)


class Committing:
    """The transactions of one script, leased together and committed one by one."""

    def __init__(self, origins: Sequence[Origin], typed: Mapping[str, Any]) -> None:
        """Lease the operations: what dies from here on is listed until it is resolved.

        Args:
            origins: The operations.
            typed: What was typed: whoever types it again learns of a run that was cut off.

        Raises:
            SpanctlError: Spanner did not acknowledge, or the run belongs to another ledger.
        """
        from spanctl.spanner import requests
        from spanctl.spanner.client import shared
        from spanctl.spanner.run import Run

        origin = origins[0]
        provenance, self._again = in_task(origin.provenance, TAG)
        refuse_other_ledger(provenance.root_run, origin.target, origin.ledger)
        self._provenance = attested(provenance, origin.asked, origin.target)
        database, root = shared(origin.target), origin.key.root
        person = self._provenance.initiator or ""
        self._run = Run(
            database,
            root,
            provenance=self._provenance,
            asked=origin.request,
            typed=None if root.startswith(KEYED) else requests.typed(database, person, typed),
        )
        registry.touch(origin.target, root, self._provenance.root_run)
        _open.setdefault(root, []).append(self._run)
        self._awaited = (awaited := _awaiting.get()) is not None
        if awaited is not None:
            awaited.append(self._run)
        keys = [one.key for one in origins]
        self._calls = dict(zip(keys, self._run.lease(keys), strict=True))

    def commit(  # noqa: PLR0913 - one operation, told in full
        self,
        origin: Origin,
        body: "Callable[[Transaction], Any]",
        arguments: dict[str, Any],
        step: str,
        *,
        at_least_once: bool = False,
        starts: bool = False,
        **options: Any,  # noqa: ANN401 - fields of TransactionOptions
    ) -> TransactionResult:
        """Commit one operation, and show it.

        Args:
            origin: The operation.
            body: Gets the transaction.
            arguments: What makes another call with the same key another write.
            step: What it is shown as.
            at_least_once: Whether it is an entry of DDL or partitioned DML.
            starts: Whether it is the first of the two: what is superseded begins nothing.
            options: Fields of :class:`~spanctl.spanner.run.TransactionOptions`.

        Raises:
            SpanctlError: As :meth:`spanctl.spanner.protocol.Execution.run` raises.
        """
        from spanctl.spanner.run import TransactionOptions

        def admitted(txn: "Transaction") -> Any:  # noqa: ANN401 - what the body returns
            if starts:
                self._run.guard(txn)
            return body(txn)

        executions: list[Execution[Any]] = []
        try:
            result = self._run.execute(
                self._calls[origin.key],
                admitted,
                arguments=arguments,
                options=TransactionOptions(**options),
                expect_replay=self._again or origin.expect_replay,
                begun=executions.append,
            )
        except BaseException as error:
            if executions and not isinstance(error, Exception):
                one = executions[0]
                entry = TransactionReport(
                    txn_id=one.call.txn_id,
                    database=str(origin.target.database),
                    step=step,
                    outcome=one.outcome,
                    at_least_once=at_least_once,
                )
                registry.record(self._provenance.flow_run, entry)
            raise
        record(
            step, self._provenance, result, str(origin.target.database), at_least_once=at_least_once
        )
        return result

    def give_up(self, origin: Origin) -> None:
        """Say that an operation is not going to be committed by this process."""
        self._run.ended(self._calls[origin.key])

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the leases, unless something is still open."""
        # Of an earlier try, too, that could not find out then what came of it.
        root, told = self._run.root, not self._awaited
        with suppress(SpanctlError):  # leases that stay open are what resolves this later
            _open[root] = [run for run in _open.get(root, ()) if not run.close(told=told)]


def commit(
    origin: Origin,
    body: "Callable[[Transaction], Any]",
    arguments: dict[str, Any],
    step: str,
    **options: Any,  # noqa: ANN401 - fields of TransactionOptions
) -> TransactionResult:
    """Commit the one operation of a script; as :meth:`Committing.commit` does."""
    with Committing([origin], arguments) as committing:
        return committing.commit(origin, body, arguments, step, **options)


def result_of(
    statement: SqlStatement,
    mode: SqlMode,
    columns: "tuple[ColumnInfo, ...]" = (),
    rows: tuple[tuple[Any, ...], ...] | None = None,
    row_count: int | None = None,
) -> StatementResult:
    """Return what a statement did."""
    return StatementResult(
        kind=KINDS.get(mode, statement.kind),
        tables=statement.tables,
        sql=statement.masked,
        line=statement.line,
        columns=columns,
        rows=rows,
        row_count=row_count,
    )


@contextmanager
def told_where(*statements: SqlStatement, first: int = 1) -> Iterator[None]:
    """Have a refusal name the statement that was refused, or where those of a batch begin.

    Args:
        statements: What is executed inside the block.
        first: The number of the first of them in its script, from 1.
    """
    try:
        yield
    except StatementError as error:
        refused = _refused(statements, error)
        where = place(first + (refused or 0), statements[refused or 0])
        if refused is None:
            where = f"one of the {len(statements)} statements from line {statements[0].line} on"
        error.message = f"{where}: {error.message}"
        error.args = (error.message,)
        raise


def _refused(statements: Sequence[SqlStatement], error: StatementError) -> int | None:
    """Return which statement of a batch was refused; None where that is not sure.

    Spanner says how many it has applied, or repeats the statement, or speaks of names that only one
    of them has.
    """
    if len(statements) == 1:
        return 0
    applied = error.details.get("applied")
    if applied is not None and applied < len(statements):
        return int(applied)
    said = " ".join(getattr(error, "quoted", "").split())
    repeated = [i for i, one in enumerate(statements) if " ".join(one.text.split()) in said]
    if repeated:
        return repeated[0] if len(repeated) == 1 else None
    named = [names(one.masked) for one in statements]
    told = names(said) & set().union(*named)
    fitting = [number for number, own in enumerate(named) if told and told <= own]
    return fitting[0] if len(fitting) == 1 else None
