"""Deaths of everything but Spanner: each run ends as it would have without, and does nothing twice.

A case is a batch: some runs come to their point, die of one cause, and are left to recoverers.
"""

import contextlib
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.campaign import ground, mortal
from tests.campaign.batches import STEPS, Batch, Kind
from tests.campaign.ground import Truth
from tests.campaign.model import Case, Form, Side, Verdict
from tests.campaign.mortal import BOUND
from tests.faults.emulator import Emulator

_ALL_PARTS: Final = ("server", "worker", "engine", "recoverer-0")
_ELSEWHERE: Final = "other pid namespace"


def _frozen(point: str, *, runs: int, batches: int) -> Kind:
    return Kind(place=_ELSEWHERE, dies=("frozen",), point=point, runs=runs, batches=batches)


KINDS: Final[dict[str, Kind]] = {
    "worker and engine": Kind(batches=3),
    "engine alone": Kind(dies=("engine",)),
    "worker alone": Kind(dies=("worker",), again=0),
    "all parts": Kind(dies=_ALL_PARTS, batches=3),
    "memory": Kind(point="memory", dies=()),
    "submitting": Kind(point="submitting", dies=("worker",), state="Submitting", again=1),
    "pending": Kind(point="pending", dies=("worker",), state="Pending", again=1, batches=1),
    "in a body": Kind(point="body"),
    "late in a body": Kind(point="late in a body"),
    "before commit": Kind(point="before commit"),
    "after commit": Kind(point="after commit"),
    "awaiting retry": Kind(point="retry", state="AwaitingRetry", flow="pay_again", batches=1),
    "paused": Kind(point="paused", state="Paused"),
    "again and again": Kind(deaths=3),
    "recoverers as well": Kind(recoverers=2, hunted=True),
    "other pid namespace": Kind(place=_ELSEWHERE, runs=12, batches=1),
    "other host": Kind(place="other host", runs=12, batches=1),
    "frozen": _frozen("between steps", runs=12, batches=1),
    # Few at a time: a body that is quiet for 8 s, until the last run comes, fails by itself.
    "frozen in a body": _frozen("late in a body", runs=4, batches=2),
    "frozen before commit": _frozen("before commit", runs=4, batches=2),
    "file": Kind(place="file", dies=("engine",), runs=4, batches=3),
}
_FIRST: Final = "worker and engine"
_FEW: Final = 3


class Recovery:
    """The campaign."""

    name = "recovery"
    about = (
        "Batches of runs of three steps on a worker, and of files, come to a point and die "
        "there: by SIGKILL of engine, worker, Prefect server and recoverer, alone and together,"
        " by a limit on memory (RLIMIT_AS; what gets none aborts), or stopped by SIGSTOP and "
        "gone on with after their successor has ended. The points: claimed (Pending), "
        "Submitting, between steps, in a body, before and after the Commit, AwaitingRetry, "
        "Paused; in the first and in later attempts; on this machine, in another pid namespace,"
        " on another host. Then the worker is started again, and `runs recover --all --watch` "
        "is left to it: every run must complete, with each step applied once, one attempt for "
        "each death, and nothing open. Engines are forked from a process that has Prefect "
        "imported. A heartbeat is due each "
        f"second, and silence counts after {BOUND:.0f} s, to which an emulator's minute for open "
        "transactions is added. *naive* has no recoverer: its runs stay dead."
    )
    lanes = 1

    def cases(self, form: Form) -> Sequence[Case]:
        """The control, then batches of every kind; the short form is one of a few runs."""
        if form is Form.SHORT:
            return [_case(_FIRST, "0", _FEW)]
        return [
            _case(_FIRST, "control", KINDS[_FIRST].runs, Side.NAIVE),
            *(
                _case(name, str(number), kind.runs)
                for name, kind in KINDS.items()
                for number in range(kind.batches)
            ),
        ]

    @contextlib.contextmanager
    def stage(self) -> Iterator["Stage"]:
        """Open an emulator."""
        with Emulator(ground.OBLIGING) as emulator:
            yield Stage(emulator.address)


def _case(kind: str, number: str, runs: int, side: Side = Side.OURS) -> Case:
    return Case(f"{kind}/{number}", {"kind": kind, "runs": runs}, side)


@dataclass(frozen=True, slots=True)
class Stage:
    """What the lane stands on."""

    address: str

    @contextlib.contextmanager
    def lane(self) -> Iterator["Batches"]:
        """Open all else."""
        with (
            tempfile.TemporaryDirectory(prefix="spanctl-mortal-") as folder,
            ground.ledger(self.address) as name,
            Truth(self.address, name) as truth,
            mortal.opened(self.address, name, Path(folder)) as world,
        ):
            yield Batches(world, truth)


@dataclass(slots=True)
class Batches:
    """The lane."""

    world: mortal.World
    truth: Truth
    next: int = 1

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Let a batch of runs die, and look what became of them."""
        keys = []
        for _ in range(case.given["runs"]):
            keys.append(range(self.next, self.next + STEPS))
            self.next += STEPS
        kind = KINDS[case.given["kind"]]
        self.world.at(kind.place)
        self.world.keep_recoverers(kind.recoverers if case.side is Side.OURS else 0)
        return Batch(self.world, self.truth, kind, dice, keys).judged(case.side)
