"""What the stack tells: values, for whoever shows them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from spanctl.local.parts import Endpoints


class Phase(StrEnum):
    """What happens to a part during ``up``."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    KEPT = "kept"
    EXTERNAL = "external"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PartEvent:
    """A step of ``up``.

    Attributes:
        part: The part, or ``database`` or ``stack``.
        phase: What happened to it.
        seconds: How long it took, for READY and FAILED.
        text: More about it, one line.
    """

    part: str
    phase: Phase
    seconds: float = 0.0
    text: str = ""


class PartState(StrEnum):
    """How a part is."""

    RUNNING = "running"
    EXTERNAL = "external"
    UNHEALTHY = "unhealthy"
    CRASHED = "crashed"
    STOPPED = "stopped"
    UNREACHABLE = "unreachable"

    @property
    def is_up(self) -> bool:
        """Whether the part does its work."""
        return self in {PartState.RUNNING, PartState.EXTERNAL}


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part as it is now.

    Attributes:
        name: What it is called.
        state: How it is.
        pid: Its process; None when it doesn't run, or is somebody else's.
        endpoint: Where it answers; None when nowhere.
        since: When it was started; None when it doesn't run, or is somebody else's.
        log: The file with its output; None when it is somebody else's.
    """

    name: str
    state: PartState
    pid: int | None
    endpoint: str | None
    since: datetime | None
    log: Path | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a part is not up.

    Attributes:
        part: The part, or ``database``.
        reason: One line.
        hint: What to do next; empty when there is nothing to add.
        log: The last lines of its log since it was started.
    """

    part: str
    reason: str
    hint: str = ""
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StackStatus:
    """The stack as it is now.

    Attributes:
        parts: Every part, in order.
        endpoints: Where it is reached; None when the emulator or the server has no place yet.
        gateway: ``host:port`` at which flows reach the database; None when an emulator of
            somebody else's is reached directly.
        credentials: Reference to what they reach it with; None likewise.
        failures: What ``up`` could not do; empty from ``status``.
        notes: What a person has to know, a line each (data that is gone).
    """

    parts: tuple[PartStatus, ...]
    endpoints: Endpoints | None
    gateway: str | None = None
    credentials: str | None = None
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_up(self) -> bool:
        """Whether everything is up and nothing failed."""
        return not self.failures and all(part.state.is_up for part in self.parts)


@dataclass(frozen=True, slots=True)
class DownResult:
    """What ``down`` did.

    Attributes:
        stopped: The parts that ran and don't any more.
        killed: How many processes had to be killed, for they didn't end when asked to.
        strays: How many processes were left of parts that had died before.
        data_gone: Whether an emulator, and so its data, ended.
    """

    stopped: tuple[str, ...]
    killed: int
    strays: int
    data_gone: bool
