"""What one process keeps of a run: its leases, and what came of its transactions.

A step leases its operation in the process that is about to commit it, just before its body: then
every lease belongs to an executor that can lose it, and a call that Prefect answers from its cache
leases nothing. Only the keys of a ``map`` are leased ahead, all in one write.
"""

import atexit
import json
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError, ObjectNotFound, PrefectException
from prefect.logging.loggers import flow_run_logger, get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Crashed
from prefect.task_runners import ThreadPoolTaskRunner

from spanctl.errors import SpanctlError
from spanctl.flows.callsite import CallSite, Origin
from spanctl.flows.pinning import Pinned, hold
from spanctl.flows.place import outer_context
from spanctl.ledger.receipt import Outcome, Provenance
from spanctl.ledger.report import Place, TransactionReport
from spanctl.orchestration.model import TRANSACTIONS_ARTIFACT
from spanctl.spanner.ending import close_all

if TYPE_CHECKING:
    from prefect.flows import Flow

    from spanctl.spanner.executors import Executor
    from spanctl.spanner.rpc import Target
    from spanctl.spanner.run import Run

_Place = tuple["Target", str, str | None]
"""Database, root of the operation keys, root flow run."""

ARTIFACT_KEY = TRANSACTIONS_ARTIFACT
_MAX_ROWS = 1000
_HOOKS = "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS"
"""What a worker sets to ``false`` for the processes of runs whose cancellation it sees to."""


class Registry:
    """The runs of this process, by database and root; thread-safe."""

    def __init__(self) -> None:
        """Start empty."""
        self.forget()

    def forget(self) -> None:
        """Start anew, without a word to any database."""
        self._lock = threading.Lock()
        self._runs: dict[_Place, Run] = {}
        self._entries: defaultdict[str, dict[Place, TransactionReport]] = defaultdict(dict)
        self._attended: dict[str, str] = {}
        self._pinned: dict[tuple[Target, str], Pinned | None] = {}
        self._touched: defaultdict[str, set[tuple[Target, str]]] = defaultdict(set)
        self._observers: list[Callable[[TransactionReport], None]] = []

    def touch(self, target: "Target", root: str, root_run: str | None) -> None:
        """Note that a root flow run writes to a database, under this root of its keys."""
        with self._lock:
            if root_run is not None and root_run in self._attended:
                self._touched[root_run].add((target, root))

    def attend(self, run: str, until: str) -> None:
        """Expect the end of flow run ``until`` in this process: it ends what is kept of ``run``."""
        with self._lock:
            self._attended[run] = until

    @contextmanager
    def run(self, origin: Origin) -> "Iterator[Run]":
        """Yield this process's run of an origin's root key.

        It is shared by all calls until its flow run ends here. Where no flow run does (in the
        workers of a pool, in task workers, outside of flows) each call has one of its own, closed
        behind it: two more commits a call, but nothing is left open and nothing piles up.
        """
        from spanctl.spanner.client import shared
        from spanctl.spanner.run import Run

        root_run = origin.provenance.root_run
        place = (origin.target, origin.key.root, root_run)
        self.touch(*place)
        with self._lock:
            run = self._runs.get(place)
            if run is None:
                provenance = Provenance(root_run=root_run, flow_run=origin.provenance.flow_run)
                run = Run(
                    shared(origin.target),
                    origin.key.root,
                    provenance=provenance,
                    asked=origin.request,
                    ancestors=origin.ancestors,
                )
            kept = root_run in self._attended
            if kept:
                self._runs[place] = run
            if kept and root_run and (origin.target, root_run) not in self._pinned:
                # Before the first write: the rotation that comes second sees the first.
                found = hold(origin.target, root_run, _warn)
                self._pinned[origin.target, root_run] = found
        try:
            yield run
        finally:
            if not kept:
                _close_quietly([run])

    def record(self, flow_run: str | None, entry: TransactionReport) -> None:
        """Remember what came of a transaction; the last word on it stands."""
        with self._lock:
            if flow_run is not None and flow_run in self._attended:
                entries = self._entries[flow_run]
                entries.pop(entry.place, None)  # the artifact's order is that of the last words
                entries[entry.place] = entry
        for tell in list(self._observers):
            tell(entry)

    def record_refusal(self, flow_run: str | None, entry: TransactionReport) -> None:
        """Remember that a call was refused whose txn ID is that of another write.

        Nobody is told of that write: it is not this call's. What is known of it stands.
        """
        with self._lock:
            if flow_run is not None and flow_run in self._attended:
                entries = self._entries[flow_run]
                known = entries.pop(entry.place, entry)
                entries[entry.place] = replace(known, error=entry.error)

    @contextmanager
    def observed(self, tell: Callable[[TransactionReport], None]) -> Iterator[None]:
        """Call ``tell`` with every entry that is recorded while the block runs, in any thread."""
        self._observers.append(tell)
        try:
            yield
        finally:
            self._observers.remove(tell)

    def take_entries(self, flow_run: str) -> list[TransactionReport]:
        """Return what was recorded for a flow run, and forget it."""
        with self._lock:
            return list(self._entries.pop(flow_run, {}).values())

    def entries(self, flow_run: str) -> list[TransactionReport]:
        """Return what was recorded for a flow run so far."""
        with self._lock:
            return list(self._entries.get(flow_run, {}).values())

    def leave(self, flow_run: str, *, completed: bool = False) -> None:
        """Note that a flow run has ended here, and close the leases that it was to end.

        Where the root flow run is complete, what its dead executors have left is settled.

        Raises:
            SpanctlError: A database could not be reached; its leases stay open, which is harmless.
        """
        with self._lock:
            ended = {run for run, until in self._attended.items() if until == flow_run}
            for run in ended:
                del self._attended[run]
            runs = [self._runs.pop(place) for place in list(self._runs) if place[2] in ended]
            pinned = [self._pinned.pop(key) for key in list(self._pinned) if key[1] in ended]
            # In a pool's process a part of the root flow run ends, and not that run itself.
            touched = {run: self._touched.pop(run, set()) for run in ended if run == flow_run}
        try:
            _close(runs)
            if completed:
                _settle_predecessors(touched)
        finally:
            _release(pinned)

    def close_all(self) -> None:
        """Close every lease; raises as :meth:`leave` does."""
        with self._lock:
            runs = list(self._runs.values())
            pinned = list(self._pinned.values())
            self._runs.clear()
            self._pinned.clear()
        try:
            _close(runs)
        finally:
            _release(pinned)


def _settle_predecessors(touched: "Mapping[str, AbstractSet[tuple[Target, str]]]") -> None:
    from spanctl.spanner import predecessors
    from spanctl.spanner.client import shared

    for run, places in touched.items():
        for target, root in places:
            others = predecessors.settle(shared(target), root, run, by=run)
            predecessors.forget(shared(target), [one for one in others if _crashed(one)])


def _crashed(dead: "Executor") -> bool:
    """End the flow run of a dead executor in Prefect, and tell whether it has ended there."""
    told = f"process {dead.pid} on {dead.host} is gone; another run of its key has completed"
    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(dead.root_run))
            if run.state is None or not run.state.is_final():
                client.set_flow_run_state(run.id, Crashed(message=told), force=True)
    except ObjectNotFound:
        return True
    except (httpx.HTTPError, PrefectException, ValueError):
        return False  # it stays listed, and can be ended by hand
    return True


def _release(pinned: "Sequence[Pinned | None]") -> None:
    for one in pinned:
        if one is not None:
            one.release()


def _warn(text: str) -> None:
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        flow_run_logger(context.flow_run).warning("%s", text)


def _close(runs: "Sequence[Run]") -> None:
    failure: SpanctlError | None = None
    for run in runs:
        try:
            run.close()
        except SpanctlError as error:
            failure = error
    if failure is not None:
        raise failure


def _close_quietly(runs: "Sequence[Run]") -> None:
    # Open leases lose nothing: they are what is looked at when an outcome is in question.
    with suppress(SpanctlError):
        _close(runs)


registry = Registry()


@atexit.register
def _close_at_exit() -> None:
    with suppress(SpanctlError):
        registry.close_all()


# A forked child doesn't own its parent's leases.
os.register_at_fork(after_in_child=registry.forget)


def lease_ahead(sites: Sequence[CallSite]) -> None:
    """Lease the operations of a whole ``map`` in one write.

    Elements may end without their body being run (cached, or failed upstream), so none of them
    counts as pending before its body asks for its lease again.
    """
    if sites:
        with registry.run(sites[0].origin) as run:
            for call in run.lease([site.origin.key for site in sites]):
                run.ended(call)


def enrolled(origins: Sequence[Origin]) -> list[Origin]:
    """Return the origins of a call as those see them who execute it, maybe in another process.

    There they say whose they are: once the executor of this run is superseded, so are they.

    Raises:
        SpanctlError: Spanner could not be reached or refused.
    """
    context = FlowRunContext.get()
    if context is None or context.detached:
        return list(origins)
    if isinstance(context.task_runner, ThreadPoolTaskRunner):
        return list(origins)
    with registry.run(origins[0]) as run:
        ancestors = run.enrol()
    return [replace(one, ancestors=ancestors) for one in origins]


_MARK = "_spanctl_watched"


def watch(root_run: str | None = None) -> None:
    """See to it that the flow runs around a call end with closed leases and an artifact.

    The hooks are put on the flow objects themselves, once each, when their first step is called.

    Args:
        root_run: The root flow run, if it isn't the outermost of this process.
    """
    context = FlowRunContext.get()
    outermost = ""
    while context is not None:
        flow, flow_run = context.flow, context.flow_run
        if flow is not None and not getattr(flow, _MARK, False):
            setattr(flow, _MARK, True)
            flow.on_completion(spanctl_transactions)
            flow.on_failure(spanctl_transactions)
            flow.on_crashed(spanctl_transactions)
            flow.on_cancellation(spanctl_transactions)
        if flow_run is not None and not context.detached:
            outermost = str(flow_run.id)
            registry.attend(outermost, outermost)
        context = outer_context(context)
    if root_run and outermost:
        registry.attend(root_run, outermost)


def spanctl_transactions(flow: "Flow[Any, Any]", flow_run: FlowRun, state: "State[Any]") -> None:  # noqa: ARG001 - Prefect's hook signature
    """Hook at the end of a flow run: write its artifact; close the leases that it ends."""
    logger = flow_run_logger(flow_run)
    entries = registry.take_entries(str(flow_run.id))
    if entries:
        try:
            _write_artifact(flow_run.id, entries)
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("no artifact of the transactions: %s", type(error).__name__)
    try:
        registry.leave(str(flow_run.id), completed=state.is_completed())
    except SpanctlError as error:
        logger.warning("leases stay open: %s", error.message)


def tell_interrupted(flow_run: str | None, entry: TransactionReport) -> None:
    """Say in Prefect what became of the transaction that a cancelled or stopped run was in.

    In the process of a worker no hook runs when its run is cancelled, so what is known is written
    at once.
    """
    try:
        logger = get_run_logger()
    except MissingContextError:
        return
    told = f"interrupted in step {entry.step}: transaction {entry.txn_id} is {entry.outcome}"
    if entry.outcome is Outcome.UNKNOWN:
        told = f"{told}; run: spanctl txn resolve {entry.txn_id}"
    logger.warning(told)
    if flow_run is None or os.environ.get(_HOOKS, "true").lower() != "false":
        return
    close_all()  # once its flow is interrupted, Prefect ends such a process by the same signal
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            _write_artifact(UUID(flow_run), registry.entries(flow_run))
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("no artifact of the transactions: %s", type(error).__name__)


def _write_artifact(flow_run: UUID, entries: Sequence[TransactionReport]) -> None:
    counts = Counter(entry.outcome.value for entry in entries)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    if len(entries) > _MAX_ROWS:
        summary += f"; {_MAX_ROWS} are shown, all of them: spanctl audit {flow_run}"
    artifact = ArtifactCreate(
        key=ARTIFACT_KEY,
        type="table",
        description=f"Spanner transactions of this flow run that its process saw: {summary}",
        data=json.dumps([entry.to_row() for entry in _shown(entries)]),
        flow_run_id=flow_run,
    )
    with get_client(sync_client=True) as client:
        client.create_artifact(artifact)


def _shown(entries: Sequence[TransactionReport]) -> list[TransactionReport]:
    """Return the last entries; of those that did not simply commit, none gives way to one that did.

    Whoever waits for the run elsewhere learns from them how it failed.
    """
    order = {entry.place: number for number, entry in enumerate(entries)}
    smooth = [one for one in entries if one.outcome is Outcome.COMMITTED and one.error is None]
    rough = [one for one in entries if one.outcome is not Outcome.COMMITTED or one.error]
    kept = [*smooth, *rough][-_MAX_ROWS:]
    return sorted(kept, key=lambda entry: order[entry.place])
