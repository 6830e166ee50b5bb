"""A batch of runs that come to their point, die of one cause, and are left to recoverers."""

import contextlib
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from spanctl.invocation import PROCESS_LABEL
from spanctl.recovery.recoverer import ROOT
from spanctl.spanner import executors, limbo, recoveries
from spanctl.spanner.recoveries import Ending
from tests.campaign.dying import RELEASED, arrived
from tests.campaign.ground import Held, Truth
from tests.campaign.model import Side, Verdict, total
from tests.campaign.mortal import LateError, World, send, until

STEPS: Final = 3
_WITHIN: Final = 300.0
_HUNT: Final = 25.0
CONTROL: Final = 15.0
"""Seconds in which nobody brings the control's runs to an end."""
_ONCE: Final = Held(value=1, events=1, receipts=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How the runs of a batch die.

    Attributes:
        point: Where they are then.
        dies: What dies of SIGKILL; ``frozen`` for engines that are stopped, and wake up late.
        place: Where the engines run.
        deaths: How often each of them dies.
        state: The state that they are in then; empty where they tell of their point.
        flow: What they run.
        again: The fewest attempts to run each of them again, where these aren't its deaths.
        recoverers: How many are at work.
        hunted: Whether recoverers are killed at random as well.
        waits: Seconds after which they go on by themselves.
        batches: How many batches of it there are.
        runs: How many runs a batch has.
    """

    point: str = "between steps"
    dies: tuple[str, ...] = ("engine", "worker")
    place: str = "here"
    deaths: int = 1
    state: str = ""
    flow: str = "pay"
    again: int | None = None
    recoverers: int = 1
    hunted: bool = False
    waits: float = 0.0
    batches: int = 2
    runs: int = 8


@dataclass(slots=True)
class Batch:
    """One batch.

    Attributes:
        world: What can die.
        truth: The database.
        kind: How it dies.
        dice: Its source of chance.
        keys: The rows that its runs count up, each its own.
    """

    world: World
    truth: Truth
    kind: Kind
    dice: random.Random
    keys: Sequence[range]
    runs: list[str] = field(default_factory=list)
    died: list[float] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)
    frozen: list[int] = field(default_factory=list)
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=self.world.folder))

    def judged(self, side: Side) -> Verdict:
        """Let it happen, with recoverers or without, and judge it."""
        recoverers = range(self.kind.recoverers if side is Side.OURS else 0)
        for number in recoverers:
            self.world.recover(number)
        self._ask()
        for number in range(self.kind.deaths):
            self._come(number + 1)
            self._die()
            self._bring_back(recoverers)
        if side is Side.NAIVE:
            self.world.are_in(self.runs, ["Completed"], CONTROL)
            return total(self._verdict(), counted=self.counted)
        if self.kind.hunted:
            self._hunt(recoverers)
        if self.kind.point == "paused":
            with contextlib.suppress(LateError):
                until("approvals", self._approved, _WITHIN)
        self.world.are_in(self.runs, ["Completed"], _WITHIN)
        if "frozen" in self.kind.dies:
            self._wake()
        return total(self._verdict(), self._left(), self._attempts(), **self._told())

    # -- what happens

    def _ask(self) -> None:
        self.truth.prepare(*(k for keys in self.keys for k in keys))
        if self.kind.point == "pending":
            self.world.work(dawdles=True)
        if self.kind.point == "submitting":
            self.world.hold(self.kind.place)
        for keys in self.keys:
            plan = {
                "first": keys.start,
                "steps": len(keys),
                "point": self.kind.point,
                "folder": str(self.folder),
                "deaths": self.kind.deaths,
                **({"waits": self.kind.waits} if self.kind.waits else {}),
            }
            if self.kind.place == "file":
                self.world.run_file(f"file-{keys.start}", self.kind.flow, plan)
            else:
                self.runs.append(self.world.run(self.kind.flow, self.kind.place, plan))
        if self.kind.place == "file":
            until("arrival", lambda: len(arrived(self.folder, "*")) == len(self.keys))
            who = {int(one.read_text().split()[1]): one.stem for one in arrived(self.folder, "*")}
            self.runs = [who[keys.start] for keys in self.keys]

    def _come(self, times: int) -> None:
        """Wait until all runs have come to their point so often."""
        if self.kind.state:
            if not self.world.are_in(self.runs, [self.kind.state]):
                raise LateError(self.kind.state)
            # A worker says who it is behind its claim: a death between the two is known to nobody.
            until("labels", lambda: all(map(_is_labelled, self.world.runs(self.runs).values())))
            return
        until("arrival", lambda: all(len(arrived(self.folder, one)) >= times for one in self.runs))

    def _die(self) -> None:
        self.died.append(time.time())
        for one in self.kind.dies:
            if one in {"engine", "frozen"}:
                number = signal.SIGKILL if one == "engine" else signal.SIGSTOP
                self.frozen = self._engines()
                send(self.frozen, number)
                self._count(f"engines {'killed' if one == 'engine' else one}", len(self.runs))
            else:
                self.world.kill(one)
                self._count(f"{one.partition('-')[0]}s killed")
        self._count("deaths", len(self.runs))

    def _engines(self) -> list[int]:
        if self.kind.place == "file":
            return [self.world.parts[f"file-{keys.start}"].pid for keys in self.keys]
        return self.world.engines(self.kind.place)

    def _bring_back(self, recoverers: range) -> None:
        self.world.release(self.kind.place)
        if "server" in self.kind.dies:
            self.world.serve()
        if "worker" in self.kind.dies:
            self.world.work()
        for number in recoverers:
            self.world.recover(number)
        if self.kind.dies == ("worker",):
            (self.folder / RELEASED).touch()

    def _approved(self) -> bool:
        """Approve each run that waits for it, before its death is told or after; are all over?"""
        states = {run: told["state_name"] for run, told in self.world.runs(self.runs).items()}
        for run in [run for run, state in states.items() if state == "Paused"]:
            self.world.ask("POST", f"/flow_runs/{run}/resume")
        return all(state in {"Completed", "Failed"} for state in states.values())

    def _hunt(self, recoverers: range) -> None:
        """Kill recoverers at random, until the runs have ended."""
        end = time.monotonic() + _HUNT
        while time.monotonic() < end and not self.world.are_in(self.runs, ["Completed"], 0.1):
            time.sleep(self.dice.uniform(0.5, 4.0))
            number = self.dice.choice(recoverers)
            self.world.kill(f"recoverer-{number}")
            self._count("recoverers killed")
            self.world.recover(number)

    def _wake(self) -> None:
        """Let the frozen ones go on, to their end."""
        (self.folder / RELEASED).touch()
        send(self.frozen, signal.SIGCONT)
        until("the end of zombies", lambda: not self.world.engines(self.kind.place))

    def _count(self, what: str, number: int = 1) -> None:
        self.counted[what] = self.counted.get(what, 0) + number

    # -- what became of it

    def _verdict(self) -> Verdict:
        """Compare how the runs ended with what the database holds."""
        ended = self.world.runs(self.runs)
        verdicts = []
        for run, keys in zip(self.runs, self.keys, strict=True):
            state = ended[run]["state_name"]
            held = [self.truth.of(k, run, call) for call, k in enumerate(keys)]
            bad = Verdict(
                wrong=sum(one.value != one.events or one.receipts > 1 for one in held),
                duplicate=sum(max(0, one.events - 1) for one in held),
                lost=sum(one.events == 0 for one in held) if state == "Completed" else 0,
                unresolved=int(state != "Completed"),
            )
            if bad.bad or any(one != _ONCE for one in held):
                told = f"{run} is {state}: {[(one.value, one.receipts) for one in held]}"
                verdicts.append(total(bad, Verdict(why=told)))
        return total(*verdicts)

    def _left(self) -> Verdict:
        """Look for what is open still, when all that is to be done is done."""
        database = self.truth.database

        def left() -> list[str]:
            rows = [one for one in executors.read(database) if one.root != ROOT]
            leases = [one for one in limbo.open_leases(database) if one.root_run in self.runs]
            return [str(one) for one in (*rows, *leases)]

        try:
            until("nothing left", lambda: not left(), 15)
        except LateError:
            found = left()
            return Verdict(unresolved=len(found), why=f"left: {found[:2]}")
        listed = self.world.cli("txn", "list", "--unresolved")
        if listed.returncode:
            return Verdict(unresolved=1, why=listed.stderr.decode()[-500:])
        return Verdict()

    def _attempts(self) -> Verdict:
        """Each death is followed by one attempt to run the run again, and no more."""
        wrong = []
        for run in self.runs:
            found = recoveries.read(self.truth.database, run)
            # Who dies when it has handed a run over leaves its attempt open: nobody needs its end.
            left = sum(one.ended_at is None for one in found)
            again = sum(one.ending is Ending.RERUN for one in found) + left
            self._count("run again", again)
            fewest = self.kind.deaths if self.kind.again is None else self.kind.again
            if not fewest <= again <= self.kind.deaths or (left and not self.kind.hunted):
                seen = [(one["timestamp"][14:23], one["name"]) for one in self.world.states(run)]
                wrong.append(f"{run}: {len(found)} attempts, {seen}")
        return Verdict(wrong=len(wrong), why="; ".join(wrong[:3]))

    def _told(self) -> dict[str, dict[str, float] | dict[str, int]]:
        took = [seconds for run in self.runs for seconds in self._pauses(run)]
        timed = {}
        if took:
            timed = {"death to going on": statistics.median(took), "slowest": max(took)}
        return {"counted": self.counted, "timed": timed}

    def _pauses(self, run: str) -> list[float]:
        """Return the seconds from each death of a run to its being executed again."""
        died = self.died
        if not self.kind.dies:
            died = [one.stat().st_mtime for one in arrived(self.folder, run)]
        states = self.world.states(run)
        begun = [
            datetime.fromisoformat(later["timestamp"]).astimezone(UTC).timestamp()
            for earlier, later in pairwise(states)
            if later["type"] == "RUNNING" and earlier["type"] == "PENDING"
        ]
        found = []
        for death in died:
            after = [one - death for one in begun if one > death]
            found += after[:1]
        return found


def _is_labelled(run: dict[str, Any]) -> bool:
    return PROCESS_LABEL in run["labels"]
