"""The runbook behind ``spanctl run sql``: queries, or DML in one transaction with one receipt.

Prefect sees statements with their literals masked, and names and types of parameters. The literals
and values stay in this process (:func:`prepared`): they are in no parameter, log or result of
Prefect's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from spanctl.clock import monotonic
from spanctl.errors import UsageError
from spanctl.flows.callsite import Origin, allot
from spanctl.flows.outside import run_outside
from spanctl.flows.runbooks import passing, whole
from spanctl.flows.runs import watch
from spanctl.flows.script import Parameter, Script, SqlMode
from spanctl.flows.sqlrunning import TAG, SqlResult, StatementResult, commit, result_of, told_where
from spanctl.ledger.receipt import StatementKind, TransactionResult
from spanctl.spanner.sql import SqlStatement

if TYPE_CHECKING:
    from spanctl.spanner.transaction import Transaction

__all__ = ["Parameter", "Script", "SqlMode", "SqlResult", "StatementResult", "prepared", "run_sql"]


_script: ContextVar[Script | None] = ContextVar("spanctl_sql_script", default=None)


@contextmanager
def prepared(script: Script) -> Iterator[dict[str, Any]]:
    """Have :func:`run_sql` run a script inside the block; yields the parameters to call it with."""
    token = _script.set(script)
    try:
        yield script.public()
    finally:
        _script.reset(token)


@flow(name="sql", persist_result=False)
def run_sql(
    statements: list[dict[str, str]],
    parameters: list[dict[str, str]] | None = None,
    mode: str = "transaction",
    *,
    dry_run: bool = False,
    deadline: float = 60.0,
) -> SqlResult:
    """Run the script that :func:`prepared` holds; the parameters describe it for Prefect.

    Args:
        statements: Each statement with its literals masked, and the digest of its text.
        parameters: Names and types of the bound parameters.
        mode: How it is run; see :class:`SqlMode`.
        dry_run: Execute DML and roll it back; only describe DDL and partitioned DML.
        deadline: Seconds for the transaction, all attempts included.

    Raises:
        UsageError: The script isn't in this process, or is another one.
        StatementError: Spanner refused a statement; nothing is committed.
        ConflictError: DDL of the same key was started before, and may have been applied.
        SpanctlError: As :meth:`spanctl.spanner.protocol.Execution.run` raises.
    """
    started = monotonic()
    script = _held(statements, parameters, mode)
    watch()
    if script.mode is SqlMode.QUERIES:
        result = _query(whole(script), whole(allot("query", key="query")[0].origin))
    elif script.mode is SqlMode.TRANSACTION:
        origin = allot("dry-run" if dry_run else "sql")[0].origin
        run = _rehearse if dry_run else _transact
        result = run(whole(script), whole(origin), deadline)
    elif dry_run:
        described = tuple(result_of(one, script.mode) for one in script.statements)
        result = SqlResult(mode=script.mode, statements=described, dry_run=True)
    else:
        origins = [allot(f"{script.mode}-{phase}")[0].origin for phase in ("started", "finished")]
        result = run_outside(whole(script), whole(origins))
    return replace(result, seconds=monotonic() - started)


def _held(statements: list[dict[str, str]], parameters: object, mode: str) -> Script:
    script = _script.get()
    asked = {"statements": statements, "parameters": parameters or [], "mode": mode}
    if script is None or script.public() != asked:
        msg = "a run's statements and values are kept in the process that began it only"
        raise UsageError(msg, hint="run it again: spanctl run sql")
    return script


# -- queries


@task(name="query", cache_policy=NO_CACHE, persist_result=False)
def _query(script: Script, origin: Origin) -> SqlResult:
    from spanctl.spanner.client import shared

    database = shared(origin.target)
    done = []
    for number, statement in enumerate(script.statements, 1):
        values, types = script.bound(statement)
        with told_where(statement, first=number):
            found = database.query(statement.text, values, types)
            done.append(result_of(statement, script.mode, found.columns, tuple(found)))
    return SqlResult(mode=script.mode, statements=tuple(done))


# -- one transaction


@task(
    name="sql",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=1,
    retry_condition_fn=passing,
)
def _transact(script: Script, origin: Origin, deadline: float) -> SqlResult:
    done: list[StatementResult] = []

    def body(txn: "Transaction") -> None:
        done.clear()
        for number, statement in enumerate(script.statements, 1):
            with told_where(statement, first=number):
                done.append(_executed(txn, script, statement))

    result = commit(origin, body, script.arguments, origin.key.called, deadline=deadline)
    if result.replayed:
        done = _from_receipt(script, result)
    return SqlResult(mode=script.mode, statements=tuple(done), transaction=result)


def _executed(txn: "Transaction", script: Script, statement: SqlStatement) -> StatementResult:
    values, types = script.bound(statement)
    if statement.kind is StatementKind.QUERY or statement.returning:
        rows = txn.execute_sql(statement.text, values, types)
        count = len(rows) if statement.returning else None
        return result_of(statement, script.mode, rows.columns, tuple(rows), count)
    count = txn.execute_update(statement.text, values, types)
    return result_of(statement, script.mode, row_count=count)


def _from_receipt(script: Script, result: TransactionResult) -> list[StatementResult]:
    """Tell what an earlier attempt did: its row counts are kept, the rows it returned are not."""
    changing = [one for one in script.statements if one.is_dml]
    seen = list(dict.fromkeys(one.digest for one in changing))
    # A receipt tells equal statements together.
    told = sorted(changing, key=lambda one: seen.index(one.digest))
    whole_list = len(result.row_counts) == len(told)
    counts = {id(one): count for one, count in zip(told, result.row_counts, strict=False)}
    return [
        result_of(one, script.mode, row_count=counts.get(id(one)) if whole_list else None)
        for one in script.statements
    ]


# -- a dry run


@task(
    name="dry-run",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=1,
    retry_condition_fn=passing,
)
def _rehearse(script: Script, origin: Origin, deadline: float) -> SqlResult:
    from spanctl.spanner.client import shared
    from spanctl.spanner.rehearsal import Sampler, rehearse

    database = shared(origin.target)

    def body(txn: "Transaction") -> SqlResult:
        sampler = Sampler(database, txn)
        done = []
        for number, statement in enumerate(script.statements, 1):
            values, types = script.bound(statement)
            with told_where(statement, first=number):
                rows, count = sampler.execute(statement, values, types)
            columns, told = (rows.columns, tuple(rows)) if rows is not None else ((), None)
            done.append(result_of(statement, script.mode, columns, told, count))
        return SqlResult(
            mode=script.mode, statements=tuple(done), dry_run=True, sample=sampler.changes()
        )

    return rehearse(database, body, deadline=deadline, tag=TAG)
