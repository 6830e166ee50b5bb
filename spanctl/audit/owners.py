"""Who owns an operation without a receipt, and whether that run still goes on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from spanctl.audit.processes import Process, of_lease
from spanctl.errors import NotPermittedError, SpanctlError, UnreachableError
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.model import FlowRun, State, StateType
from spanctl.spanner.limbo import Leased, OpenLease


class Owner(StrEnum):
    """How the run that owns an operation is.

    ALIVE and WAITING (it will be run again, or is paused) see to their operations themselves. A
    ZOMBIE's process goes on although its run is over. UNKNOWN is what nobody here can tell.
    """

    ALIVE = "alive"
    WAITING = "waiting"
    UNKNOWN = "unknown"
    ZOMBIE = "zombie"
    CANCELLED = "cancelled"
    CRASHED = "crashed"
    ENDED = "ended"

    @property
    def is_in_charge(self) -> bool:
        """Whether the run will settle the operation by itself."""
        return self in {Owner.ALIVE, Owner.WAITING}

    @property
    def is_over(self) -> bool:
        """Whether the run is known not to settle it any more."""
        return not self.is_in_charge and self is not Owner.UNKNOWN


_ENDED: Final = {StateType.CANCELLED: Owner.CANCELLED, StateType.CRASHED: Owner.CRASHED}
_GOING: Final = frozenset({StateType.RUNNING, StateType.CANCELLING})
_ORDER: Final = tuple(Owner)
"""Of several executors of one operation, the first of these counts."""


@dataclass(frozen=True, slots=True)
class Owned:
    """What is known of an operation's owner.

    Attributes:
        owner: How the owning run is.
        lease: The lease of the executor that counts.
        note: How that is known, in a few words.
        run: The root flow run, as Prefect tells it; None where it doesn't.
    """

    owner: Owner
    lease: OpenLease
    note: str
    run: FlowRun | None = None


@dataclass(slots=True)
class Owners:
    """Judges the owners of operations; asks Prefect once for each root flow run.

    Attributes:
        api: Prefect's API; None when none is set.
        leases: Every open lease: an executor that is alive speaks for all of its run.
        look: Tells whether the process of a lease still runs.
        trouble: Why Prefect could not be asked; empty when it could.
    """

    api: PrefectApi | None
    leases: Sequence[OpenLease] = ()
    look: Callable[[OpenLease], Process] = of_lease
    trouble: str = ""
    _runs: dict[str, FlowRun | None] = field(default_factory=dict)
    _processes: dict[str, Process] = field(default_factory=dict)

    def ask(self) -> None:
        """Read the root flow runs of the leases, all at once."""
        roots = sorted({one.root_run for one in self.leases if one.root_run})
        if not roots:
            return
        if self.api is None:
            self.trouble = "no Prefect API is set"
            return
        try:
            found = {run.id: run for run in self.api.flow_runs(roots)}
        except (UnreachableError, NotPermittedError) as error:
            self.trouble = error.message
        except SpanctlError as error:
            self.trouble = f"Prefect's answer can't be used: {error.message}"
        else:
            self._runs = {root: found.get(root) for root in roots}

    def of(self, operation: Leased) -> Owned:
        """Return how the owner of an operation is."""
        return self.of_all(operation.leases)

    def of_all(self, leases: Iterable[OpenLease]) -> Owned:
        """Return how the owner of what one or more leases hold is."""
        judged = [self.of_lease(lease) for lease in leases]
        return min(judged, key=lambda owned: _ORDER.index(owned.owner))

    def of_lease(self, lease: OpenLease) -> Owned:
        """Return how the run of an executor is."""
        process = self._process(lease)
        where = f"process {lease.pid} on {lease.host}"
        if lease.root_run is None:
            told = {
                Process.RUNNING: (Owner.ALIVE, f"{where} runs"),
                Process.GONE: (Owner.CRASHED, f"{where} is gone"),
                Process.ELSEWHERE: (Owner.UNKNOWN, f"{where} can't be looked at from here"),
            }
            return Owned(told[process][0], lease, told[process][1])
        if self.trouble:
            gone = f"; {where} is gone" if process is Process.GONE else ""
            return Owned(Owner.UNKNOWN, lease, f"{self.trouble}{gone}")
        run = self._runs.get(lease.root_run)
        if run is None or run.state is None:
            told = {
                Process.RUNNING: (Owner.ALIVE, f"{where} runs; Prefect doesn't know the run"),
                Process.GONE: (Owner.CRASHED, f"{where} is gone; Prefect doesn't know the run"),
                Process.ELSEWHERE: (Owner.UNKNOWN, f"Prefect doesn't know the run of {where}"),
            }
            return Owned(told[process][0], lease, told[process][1], run)
        owner, note = self._in_state(run.state, lease, process)
        return Owned(owner, lease, note, run)

    def _in_state(self, state: State, lease: OpenLease, process: Process) -> tuple[Owner, str]:
        says, where = f"Prefect says {state.name}", f"process {lease.pid} on {lease.host}"
        if state.type.is_final and process is Process.RUNNING:
            return Owner.ZOMBIE, f"{says}, but {where} runs"
        if state.type.is_final:
            return _ENDED.get(state.type, Owner.ENDED), says
        if state.type not in _GOING:
            return Owner.WAITING, says
        if process is not Process.GONE:
            return Owner.ALIVE, says
        if self._goes_on_elsewhere(state, lease):
            return Owner.ALIVE, f"{says}: executed again, {where} is gone"
        owner = Owner.CANCELLED if state.type is StateType.CANCELLING else Owner.CRASHED
        return owner, f"{says}, but {where} is gone"

    def _goes_on_elsewhere(self, state: State, lease: OpenLease) -> bool:
        """Tell whether another process executes the run of a lease whose own process is gone."""
        if state.type is StateType.RUNNING and state.timestamp > lease.since:
            return True
        return any(
            other.root_run == lease.root_run and self._process(other) is Process.RUNNING
            for other in self.leases
        )

    def _process(self, lease: OpenLease) -> Process:
        if lease.intent_id not in self._processes:
            self._processes[lease.intent_id] = self.look(lease)
        return self._processes[lease.intent_id]
