"""How a run that ran elsewhere failed: from what its flow runs wrote of their transactions."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from spanctl import errors
from spanctl.clock import monotonic, now
from spanctl.errors import (
    FlowCancelledError,
    FlowFailedError,
    OutcomeUnknownError,
    SpanctlError,
    UnreachableError,
)
from spanctl.ledger.receipt import Outcome
from spanctl.ledger.report import Place, TransactionReport, merged
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.model import TRANSACTIONS_ARTIFACT, FlowRun, Log, StateType

_POLL: Final = 0.25
_PATIENCE: Final = 10.0
"""Seconds after the end of a run in which its hook may still write what became of its
transactions; less when the engine's last line says that its hooks have run."""
_PATIENCE_WITHOUT_ENGINE: Final = 3.0
"""The same for a run that was cancelled or crashed: its worker may run the hook, or nobody. And for
one that has logged nothing."""
_LEAST: Final = 1.0
"""Seconds that are waited at least: Prefect's clock may not be this one."""
_SUBFLOWS: Final = 100
_ERRORS: Final = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, SpanctlError)
}


def check(
    api: PrefectApi,
    run: FlowRun,
    ledger: Sequence[TransactionReport] = (),
    *,
    is_whole: bool = False,
) -> None:
    """Return when an ended run completed and the outcome of each of its transactions is known.

    Args:
        api: Prefect.
        run: The root flow run, as it ended.
        ledger: What the ledger says of its transactions: what other processes did is only there.
        is_whole: Whether that is all of them, open ones included: then it will do without Prefect.

    Raises:
        OutcomeUnknownError: The outcome of a transaction is open, whatever the flow made of it.
        SpanctlError: The run failed; of the kind that its last failed step ended with.
        FlowFailedError: It failed for another reason.
        FlowCancelledError: It was cancelled or crashed.
        UnreachableError: Prefect did not answer.
    """
    try:
        reports = merged(told(api, run, patience=_patience(run)), ledger)
    except UnreachableError:
        if not is_whole:
            raise
        reports = list(ledger)
    refuse_open(reports)
    if run.state is None or run.state.type is StateType.COMPLETED:
        return
    msg = f"flow run {run.id} ended as {run.state.name}"
    hint = f"run: spanctl audit {run.id}"
    if run.state.type is not StateType.FAILED:
        undone = [one for one in reports if one.outcome is Outcome.NOT_COMMITTED]
        if undone:
            msg = f"{msg}: {undone[-1].txn_id} ({undone[-1].step}) NOT_COMMITTED"
        left = [one.txn_id for one in undone]
        raise FlowCancelledError(msg, hint=hint, flow_run=run.id, not_committed=left)
    last = next((one for one in reversed(reports) if _failed(one)), None)
    if last is None or last.error not in _ERRORS:
        raise FlowFailedError(msg, hint=hint, flow_run=run.id)
    msg = f"{msg}: step {last.step} failed ({last.error})"
    raise _ERRORS[last.error](msg, hint=hint, flow_run=run.id, txn_id=last.txn_id)


def _patience(run: FlowRun) -> float:
    """Return how many seconds the hook's word may still take; none for a run that never began."""
    if run.state is None or run.start_time is None:
        return 0.0
    longest = _PATIENCE if run.state.type.is_of_engine else _PATIENCE_WITHOUT_ENGINE
    return max(_LEAST, longest - max(0.0, (now() - run.state.timestamp).total_seconds()))


def refuse_open(reports: Iterable[TransactionReport]) -> None:
    """Return when the outcome of every transaction is known, whatever the flow made of it.

    Raises:
        OutcomeUnknownError: One is open.
    """
    told = list(reports)
    unknown = [one for one in told if one.outcome is Outcome.UNKNOWN]
    if unknown:
        first, ids = unknown[0], [one.txn_id for one in unknown]
        more = f", and of {len(unknown) - 1} more" if len(unknown) > 1 else ""
        msg = f"the outcome of transaction {ids[0]}{more} is UNKNOWN"
        hint = f"once the database answers, run: spanctl txn resolve {ids[0]}"
        if len({one.database for one in told if one.database}) > 1:
            hint = f"{hint}, in a context of {first.database}"
        raise OutcomeUnknownError(
            msg, hint=hint, txn_id=ids[0], txn_ids=ids, database=first.database
        )


def _failed(one: TransactionReport) -> bool:
    return bool(one.error) or one.outcome is Outcome.NOT_COMMITTED


def told(api: PrefectApi, run: FlowRun, *, patience: float = 0.0) -> list[TransactionReport]:
    """Return what the run and its subflows wrote of their transactions, the run's own last.

    The last word on a transaction stands: a flow that is retried runs its subflows anew. Prefect
    calls the hook that writes it after the run has ended.

    Args:
        api: Prefect.
        run: The root flow run.
        patience: Seconds to wait until something was written.

    Raises:
        UnreachableError: Prefect did not answer.
    """
    began = monotonic()
    hooks_ran = False
    while True:
        over = hooks_ran or monotonic() >= began + patience
        found = [api.artifact(one, TRANSACTIONS_ARTIFACT) for one in _flow_runs(api, run.id)]
        # Of a run that was retried, what is there may be an earlier attempt's.
        if over or (run.run_count <= 1 and any(one is not None for one in found)):
            break
        lines = api.last_logs(run.id)
        hooks_ran = _hooks_ran(lines, run)
        if not lines:
            patience = min(patience, _PATIENCE_WITHOUT_ENGINE)
        if not hooks_ran:
            time.sleep(_POLL)
    last: dict[Place, TransactionReport] = {}
    for rows in reversed(found):
        for one in map(TransactionReport.from_row, rows or ()):
            last.pop(one.place, None)
            last[one.place] = one
    return list(last.values())


def _hooks_ran(newest: Iterable[Log], run: FlowRun) -> bool:
    for line in newest:
        if line.begins:
            return False
        if line.ends(run.state):
            # An earlier attempt's is older than the state that this one ended in.
            later = run.state is not None and line.timestamp >= run.state.timestamp
            return later or run.run_count <= 1
    return False


def _flow_runs(api: PrefectApi, root: str) -> Iterator[str]:
    waiting, seen = [root], {root}
    while waiting:
        one = waiting.pop(0)
        yield one
        for child in api.subflow_runs(one):
            if child.id not in seen and len(seen) < _SUBFLOWS:
                seen.add(child.id)
                waiting.append(child.id)
