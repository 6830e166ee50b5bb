"""What runbooks share: where a runbook runs, on which database, and its provenance."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, cast

from prefect.context import TaskRunContext
from prefect.utilities.annotations import quote

from spanctl import invocation
from spanctl.errors import DeadlineError, OutcomeUnknownError, UnreachableError
from spanctl.flows.asking import attested
from spanctl.flows.callsite import allot
from spanctl.flows.ledgers import refuse_other_ledger
from spanctl.flows.runs import registry, watch
from spanctl.ledger.keys import KEYED
from spanctl.ledger.receipt import Provenance, TransactionResult
from spanctl.ledger.report import TransactionReport

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.tasks import Task

    from spanctl.spanner.client import Target

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a runbook's flow stands.

    Attributes:
        target: The database.
        root: First part of the operation keys of this flow run, or of its idempotency key.
        provenance: Who asked, why, and the flow run.
        again: Whether its operations may have been run before.
        idempotency_key: What stands in for the flow run in those keys, if anything does.
    """

    target: "Target"
    root: str
    provenance: Provenance
    again: bool
    idempotency_key: str | None = None


def standing(runbook: str) -> Standing:
    """Return where the calling flow stands.

    Raises:
        ConfigurationError: No database is set.
        UnreachableError: Prefect's API or Spanner did not answer.
        ConflictError: The flow run belongs to another ledger than the database's.
    """
    site = allot(runbook, key="runbook")[0]
    watch()
    origin = site.origin
    refuse_other_ledger(origin.provenance.root_run, origin.target, origin.ledger)
    root = origin.key.root
    return Standing(
        target=origin.target,
        root=root,
        idempotency_key=root.removeprefix(KEYED) if root.startswith(KEYED) else None,
        provenance=attested(origin.provenance, origin.asked, origin.target),
        again=origin.expect_replay,
    )


def in_task(provenance: Provenance, tag: str | None = None) -> tuple[Provenance, bool]:
    """Add who executes, in which task run; tell whether the task run has been run before."""
    provenance = replace(provenance, executor=invocation.executor(), tag=tag)
    context = TaskRunContext.get()
    if context is None:
        return provenance, False
    run = context.task_run
    count = max(run.run_count, 1)
    with_task = replace(provenance, task_run=str(run.id), task=context.task.name, attempt=count)
    return with_task, count > 1


def record(
    step: str,
    provenance: Provenance,
    result: TransactionResult,
    database: str,
    *,
    at_least_once: bool = False,
) -> None:
    """Show a transaction in the flow run's artifact, and to whoever watches this process."""
    report = TransactionReport.of_result(step, result, database, at_least_once=at_least_once)
    registry.record(provenance.flow_run, report)


def whole(value: T) -> T:
    """Hand a task an object that Prefect neither looks through nor copies."""
    return cast("T", quote(value))


def passing(_task: "Task[..., object]", _run: "TaskRun", state: "State[object]") -> bool:
    """Tell Prefect whether a failed task may do better on a retry."""
    return isinstance(state.data, UnreachableError | OutcomeUnknownError | DeadlineError)
