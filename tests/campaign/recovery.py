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
from tests.faults.emulator import Emulator

KINDS: Final[dict[str, Kind]] = {
    "worker and engine": Kind(batches=4),
}
_FIRST: Final = "worker and engine"
_RUNS: Final = {Form.FULL: 8, Form.SHORT: 3}


class Recovery:
    """The campaign."""

    name = "recovery"
    about = "..."
    lanes = 1

    def cases(self, form: Form) -> Sequence[Case]:
        """The control, then batches of every kind; the short form has one."""
        runs = _RUNS[form]
        made = [Case(f"{_FIRST}/control", {"kind": _FIRST, "runs": runs}, Side.NAIVE)]
        for name, kind in KINDS.items():
            number = kind.batches if form is Form.FULL else int(name == _FIRST)
            made += [Case(f"{name}/{one}", {"kind": name, "runs": runs}) for one in range(number)]
        return made

    @contextlib.contextmanager
    def stage(self) -> Iterator["Stage"]:
        """Open an emulator."""
        with Emulator(ground.OBLIGING) as emulator:
            yield Stage(emulator.address)


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
        return Batch(self.world, self.truth, kind, dice, keys).judged(case.side)
