"""DDL and partitioned DML: outside of every transaction, so shown as "at least once".

Two transactions write nothing but their receipts: one says *started*, before anything else, the
other *finished*, *failed* or that the end is *unknown*, and names the first.
"""

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from spanctl.errors import ConflictError, KeyClosedError, SpanctlError, StatementError
from spanctl.flows.callsite import Origin
from spanctl.flows.script import Script, SqlMode, place
from spanctl.flows.sqlrunning import KINDS, Committing, SqlResult, result_of, told_where
from spanctl.ledger.phases import ASSUMED, CHECKED, Phase, step_words
from spanctl.ledger.receipt import Statement, StatementKind, TransactionResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spanctl.spanner.transaction import Transaction


@task(name="sql", cache_policy=NO_CACHE, persist_result=False)
def run_outside(script: Script, origins: list[Origin]) -> SqlResult:
    """Run DDL or partitioned DML between the two transactions that record it.

    Args:
        script: All DDL, or all UPDATE and DELETE.
        origins: The operations of the two transactions.

    Raises:
        ConflictError: DDL of the same key was started before, and may be applied.
        KeyClosedError: An earlier run of the same key died, and an operator closed it.
        NotIdempotentError: Partitioned DML may do harm when it is applied twice.
        LimitError: It is larger than Spanner takes; nothing was recorded or sent.
        StatementError: Spanner refused a statement; those before it are applied.
        SpanctlError: Spanner could not be reached.
    """
    _refuse_large(script, origins[0])
    _refuse_harmful(script, origins[0])
    with Committing(origins, script.arguments) as committing:
        return _between(script, origins[0], origins[1], committing)


def _refuse_large(script: Script, origin: Origin) -> None:
    """Refuse what can't be sent before an entry says that it was started."""
    from spanctl.spanner.admin import refuse_large_ddl
    from spanctl.spanner.partitioned import refuse_large

    if script.mode is SqlMode.DDL:
        refuse_large_ddl(origin.target, [statement.text for statement in script.statements])
        return
    for statement in script.statements:
        refuse_large(statement.text, *script.bound(statement))


def _refuse_harmful(script: Script, origin: Origin) -> None:
    from spanctl.spanner.client import shared
    from spanctl.spanner.partitioned import refuse_harmful

    if script.mode is SqlMode.PARTITIONED and not script.assume_idempotent:
        for number, statement in enumerate(script.statements, 1):
            refuse_harmful(shared(origin.target), statement, place(number, statement))


def _between(script: Script, begin: Origin, end: Origin, committing: Committing) -> SqlResult:
    """Run it between its two transactions, which are leased: so a death between them shows."""
    kind, how = KINDS[script.mode], _idempotent(script)
    noted: dict[str, Any] = {"idempotent": how} if how else {}
    try:
        started, earlier = _start(script, begin, end, committing, noted)
    except Exception:
        committing.give_up(end)  # here nothing was begun that it could end
        raise
    if earlier is not None:
        committing.give_up(end)
        return _replayed(script, started, earlier)
    # What no answer came to may be applied: that is neither finished nor failed.
    facts = {"phase": Phase.UNKNOWN.value, "started": started.txn_id, **noted}
    counts: list[int | None] = []

    def finish() -> TransactionResult:
        noting = _noting(script, kind, facts, counts)
        step = step_words(kind, Phase(facts["phase"]))
        told = {"started": started.txn_id}
        return committing.commit(end, noting, told, step, at_least_once=True, keep_result=True)

    try:
        facts |= _apply(script, begin, counts, started.txn_id)
    except BaseException as error:
        if isinstance(error, StatementError):
            _tell_applied(error, started.txn_id, counts if script.mode is not SqlMode.DDL else None)
            facts |= {"phase": Phase.FAILED.value, "status": error.details.get("status")}
        # What was started shall not look as if it were still going on; that this can't be written
        # is no news beside what has failed.
        with suppress(SpanctlError):
            finish()
        raise
    finished = finish()
    results = tuple(
        result_of(one, script.mode, row_count=count)
        for one, count in zip(script.statements, counts, strict=True)
    )
    return SqlResult(
        mode=script.mode,
        statements=results,
        entries=(started, finished),
        at_least_once=True,
        operation=facts.get("operation"),
        idempotent=how,
    )


def _start(
    script: Script, begin: Origin, end: Origin, committing: Committing, noted: dict[str, Any]
) -> tuple[TransactionResult, TransactionResult | None]:
    """Commit the first entry; return it, and the second where an earlier run has finished.

    Raises:
        ConflictError: DDL of the same key was started before, and may be applied.
        KeyClosedError: An earlier run of the same key died, and an operator closed it.
        SpanctlError: As :meth:`~spanctl.flows.sqlrunning.Committing.commit` raises.
    """
    kind = KINDS[script.mode]
    started = committing.commit(
        begin,
        _noting(script, kind, {"phase": Phase.STARTED.value, **noted}),
        script.arguments,
        step_words(kind, Phase.STARTED),
        at_least_once=True,
        starts=True,
        keep_result=True,
    )
    earlier = _finish_of(end) if started.replayed else None
    if started.replayed and earlier is None and script.mode is SqlMode.DDL:
        msg = f"this DDL was started before, by transaction {started.txn_id}, and may be applied"
        hint = (
            f"look: spanctl audit {started.txn_id}; look at the schema, then run what is missing as"
            " a new run"
        )
        raise ConflictError(msg, hint=hint, txn_id=started.txn_id)
    return started, earlier


def _tell_applied(
    error: StatementError, started: str, counts: "Sequence[int | None] | None"
) -> None:
    """Have a refusal say what stays applied, where that is known, and what began it.

    Args:
        error: The refusal.
        started: The transaction that says *started*.
        counts: Those of the statements that were executed one by one; None for a batch of DDL.
    """
    applied = error.details.get("applied") if counts is None else len(counts)
    if error.details.get("begun") is False:
        stays = "; nothing is applied"
    elif applied:
        stays = "; statement 1 is" if applied == 1 else f"; statements 1 to {applied} are"
        stays += " applied"
    else:
        stays = ""
    error.message = f"{error.message}{stays}; begun by transaction {started}"
    error.args = (error.message,)
    error.details["started"] = started


def _replayed(script: Script, started: TransactionResult, ended: TransactionResult) -> SqlResult:
    """Tell of what an earlier run of the same key has finished."""
    kept = ended.result
    counts = kept.get("rows_at_least") or [None for _ in script.statements]
    results = tuple(
        result_of(one, script.mode, row_count=count)
        for one, count in zip(script.statements, counts, strict=True)
    )
    return SqlResult(
        mode=script.mode,
        statements=results,
        entries=(started, ended),
        operation=kept.get("operation"),
        idempotent=kept.get("idempotent"),
    )


def _idempotent(script: Script) -> str | None:
    if script.mode is not SqlMode.PARTITIONED:
        return None
    return ASSUMED if script.assume_idempotent else CHECKED


def _apply(
    script: Script, origin: Origin, counts: list[int | None], started: str
) -> dict[str, Any]:
    """Execute the statements; return what the second entry keeps of it."""
    from spanctl.spanner import admin
    from spanctl.spanner.client import shared
    from spanctl.spanner.partitioned import execute_partitioned

    if script.mode is SqlMode.DDL:
        texts = [statement.text for statement in script.statements]
        with told_where(*script.statements):
            operation = admin.execute_ddl(
                origin.target, texts, operation_id=f"ddl_{started.replace('-', '')}_0"
            )
        counts.extend(None for _ in texts)
        return {"phase": Phase.FINISHED.value, "operation": operation}
    for number, statement in enumerate(script.statements, 1):
        values, types = script.bound(statement)
        with told_where(statement, first=number):
            count = execute_partitioned(
                shared(origin.target), statement.text, values, types, assume_idempotent=True
            )
            counts.append(count)  # checked before anything was recorded, or assumed
    return {"phase": Phase.FINISHED.value, "rows_at_least": counts}


def _finish_of(origin: Origin) -> TransactionResult | None:
    """Return the transaction that said *finished* in an earlier run of the same key.

    Raises:
        KeyClosedError: That run died, and an operator has closed what it had begun.
    """
    from spanctl.spanner import fence
    from spanctl.spanner.client import shared

    stands = fence.standing(shared(origin.target), origin.key)
    txn_id = stands.call.txn_id
    if stands.is_closed:
        msg = f"an earlier run began this and died, and {txn_id} closes it"
        hint = f"look at the data, then: spanctl txn reopen {txn_id} --reason WHY"
        raise KeyClosedError(msg, hint=hint, txn_id=txn_id)
    kept = json.loads(stands.entry.result or "{}") if stands.entry else {}
    if stands.entry is None or kept.get("phase") != Phase.FINISHED:
        return None
    return TransactionResult(
        txn_id=txn_id,
        commit_timestamp=stands.entry.commit_timestamp,
        attempts=0,
        replayed=True,
        result=kept,
    )


def _noting(
    script: Script, kind: StatementKind, facts: dict[str, Any], counts: "list[Any] | None" = None
) -> "Callable[[Transaction], Any]":
    def body(txn: "Transaction") -> dict[str, Any]:
        known = [*(counts or ()), *(None for _ in script.statements)]
        for one, count in zip(script.statements, known, strict=False):
            txn.note(
                Statement(
                    kind=kind,
                    tables=one.tables,
                    digest=one.digest,
                    sql=one.masked,
                    parameters=one.parameters,
                    rows=count,
                )
            )
        return facts

    return body
