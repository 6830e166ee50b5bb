"""Prefect's own ways of doing things twice: each of them happens, and is applied once."""

import contextlib
import itertools
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.campaign import ground
from tests.campaign.doubled import REFUSED, WRITTEN, wait
from tests.campaign.ground import Report, Truth
from tests.campaign.model import Case, Form, Side, Verdict, total
from tests.campaign.zygote import Ended, Zygote
from tests.faults.emulator import Emulator
from tests.faults.proxy import FaultProxy, lose_reply
from tests.fixtures import prefect

_CHILD: Final = "tests.campaign.doubled:execute"
_MODULES: Final = ("google.cloud.spanner", "spanctl.spanner.run", "tests.campaign.doubled")
_SEEDS: Final = {Form.FULL: 100, Form.SHORT: 1}
_FEW: Final = {Form.FULL: 10, Form.SHORT: 1}
_MISSED: Final = 180.0
_WATCHFUL: Final = {"PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "true"}
_ZOMBIES: Final = {
    "name": "zombies",
    "trigger": {
        "type": "event",
        "posture": "Proactive",
        "match": {"prefect.resource.id": ["prefect.flow-run.*"]},
        "for_each": ["prefect.resource.id"],
        "after": ["prefect.flow-run.heartbeat"],
        "expect": [
            f"prefect.flow-run.{one}"
            for one in ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed")
        ],
        "threshold": 1,
        "within": 10,
    },
    "actions": [
        {"type": "change-flow-run-state", "state": "CRASHED", "message": "no heartbeat came"}
    ],
}
"""Calls a run crashed whose heartbeat is missed: ten seconds are the least that Prefect takes."""
_CODES: Final = ("DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED")


class Doubling:
    """The campaign."""

    name = "doubling"
    about = (
        "A flow run of one step is run again as Prefect runs things again: a task's retry after a"
        " lost reply, a flow's retry, `flow-run retry`, a worker killed after the commit and its"
        " run resubmitted, two executors of one flow run at the same time, a cancelled run whose"
        " body goes on beside its resubmission, a frozen executor whose heartbeat Prefect misses"
        " and which wakes after the resubmission, and a result store that fails after the commit."
        " *naive* is a plain task with `run_in_transaction`. Executors are processes forked from"
        " one that has Prefect imported. A key used again with other arguments must be refused."
    )
    lanes = 1

    def cases(self, form: Form) -> Sequence[Case]:
        """Every way with every seed; of the naive side a few."""
        naive = [
            Case(f"{way}/{seed}", {"way": way}, Side.NAIVE)
            for way in WAYS
            for seed in range(_FEW[form])
            if way != _OTHER
        ]
        ours = [
            Case(f"{way}/{seed}", {"way": way})
            for way, (_, seeds) in WAYS.items()
            for seed in range(seeds[form])
        ]
        return [*naive, *ours]

    @contextlib.contextmanager
    def stage(self) -> Iterator["Stage"]:
        """Open an emulator and a Prefect server."""
        with (
            Emulator(ground.OBLIGING) as emulator,
            tempfile.TemporaryDirectory() as folder,
            prefect.server(Path(folder), _WATCHFUL) as api,
        ):
            httpx.post(f"{api}/automations/", json=_ZOMBIES).raise_for_status()
            yield Stage(emulator.address, api, Path(folder))


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers that the lanes share."""

    address: str
    api: str
    folder: Path

    @contextlib.contextmanager
    def lane(self) -> Iterator["World"]:
        """Open a database, a proxy and two zygotes: two executors live at the same time."""
        environ = {"PREFECT_API_URL": self.api, "PREFECT_LOGGING_LEVEL": "CRITICAL"}
        with (
            Zygote(_MODULES, environ) as first,
            Zygote(_MODULES, environ) as second,
            ground.ledger(self.address) as name,
            Truth(self.address, name) as truth,
            FaultProxy(self.address) as proxy,
            httpx.Client(base_url=self.api, timeout=30) as api,
            ThreadPoolExecutor(2) as threads,
        ):
            yield World(
                self.address, name, self.folder, truth, (first, second), proxy, api, threads
            )


@dataclass(frozen=True, slots=True)
class Job:
    """One flow run, and what its executors are told.

    Attributes:
        world: Where.
        side: Whose step it is.
        k: The row that it counts up.
        flow_run: Its id, which is the root of its operation keys.
        dice: The case's source of chance.
    """

    world: "World"
    side: Side
    k: int
    flow_run: str
    dice: random.Random

    def execute(
        self, plan: Mapping[str, Any], *, zygote: int = 0, address: str = "", **kill: Any
    ) -> Ended:
        """Execute the flow run in a child, to its end."""
        return self.world.zygotes[zygote].run(
            _CHILD,
            flow_run=self.flow_run,
            address=address or self.world.address,
            name=self.world.name,
            side=self.side.value,
            k=self.k,
            plan=dict(plan),
            **kill,
        )

    def set_state(self, kind: str) -> None:
        """Have Prefect put the flow run into a state, as its commands do."""
        state = {"state": {"type": kind}, "force": True}
        self.world.post(f"/flow_runs/{self.flow_run}/set_state", state)

    def await_heartbeat(self) -> None:
        """Wait until Prefect has heard that the flow run lives."""
        its = {"resource": {"id": [f"prefect.flow-run.{self.flow_run}"]}}
        wanted = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}, **its}}
        self._await(lambda: self.world.post("/events/filter", wanted)["total"] > 0)

    def await_state(self, kind: str) -> None:
        """Wait until Prefect has the flow run in a state."""
        self._await(lambda: self.world.get(f"/flow_runs/{self.flow_run}")["state_type"] == kind)

    def _await(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + _MISSED
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(self.flow_run)
            time.sleep(0.2)

    def file(self, what: str) -> str:
        """Return a path of the job's own."""
        return str(self.world.folder / f"{self.flow_run}-{what}")


# -- the ways


def task_retry(job: Job) -> list[Ended]:
    """Have the task run again: the reply to its commit is lost."""
    proxy = job.world.proxy
    proxy.clear()
    code = job.dice.choice(_CODES)
    proxy.add("Commit", lose_reply(code), when=lambda peek: "events" in peek.writes)
    return [job.execute({"task_retries": 2}, address=proxy.address)]


def flow_retry(job: Job) -> list[Ended]:
    """Have the flow run again: it fails after the step."""
    return [job.execute({"flow_retries": 1, "fails": True})]


def flow_run_retry(job: Job) -> list[Ended]:
    """Retry the failed flow run in another process, as ``prefect flow-run retry`` does."""
    failed = job.execute({"fails": True})
    job.set_state("SCHEDULED")
    return [failed, job.execute({})]


def killed_worker(job: Job) -> list[Ended]:
    """Kill the executor at some time after the commit, and have the run resubmitted."""
    late = job.dice.uniform(0.0, 0.05)
    killed = job.execute({"awaits": (), "fails": True}, kill_on=WRITTEN, after=late)
    job.set_state("SCHEDULED")
    return [killed, job.execute({})]


def two_executors(job: Job) -> list[Ended]:
    """Let two executors of one flow run go through its body side by side."""
    files = [job.file("first"), job.file("second")]
    plans = [{"arrives": one, "awaits": files} for one in files]
    children = [
        job.world.threads.submit(job.execute, plan, zygote=number)
        for number, plan in enumerate(plans)
    ]
    return [child.result() for child in children]


def zombie(job: Job) -> list[Ended]:
    """Freeze an executor until Prefect misses its heartbeat and calls the run crashed; have it
    resubmitted, and let the zombie write after it."""
    arrived, released = job.file("arrived"), job.file("released")
    plan = {"arrives": arrived, "awaits": [released], "heartbeat": 1}
    living = job.world.threads.submit(job.execute, plan, zygote=1, patience=_MISSED)
    wait(Path(arrived))
    pid = int(Path(arrived).read_text())
    job.await_heartbeat()
    os.kill(pid, signal.SIGSTOP)
    try:
        job.await_state("CRASHED")
        job.set_state("SCHEDULED")
        again = job.execute({})
    finally:
        os.kill(pid, signal.SIGCONT)
        Path(released).touch()
    return [again, living.result()]


def cancelled(job: Job) -> list[Ended]:
    """Cancel a run whose body goes on, have it resubmitted, and let the first write after it."""
    arrived, released = job.file("arrived"), job.file("released")
    plan = {"arrives": arrived, "awaits": [released]}
    living = job.world.threads.submit(job.execute, plan, zygote=1)
    wait(Path(arrived))
    job.set_state("CANCELLED")
    job.set_state("SCHEDULED")
    again = job.execute({})
    Path(released).touch()
    return [again, living.result()]


def broken_store(job: Job) -> list[Ended]:
    """Lose the task's result after its commit: the flow's retry finds none, and runs it again."""
    return [job.execute({"store_breaks": True, "flow_retries": 1, "fails": True})]


def other_arguments(job: Job) -> list[Ended]:
    """Use the key again with other arguments."""
    return [job.execute({"other": job.world.new_row()})]


Way = Callable[[Job], list[Ended]]

_OTHER: Final = "key with other arguments"
WAYS: Final[dict[str, tuple[Way, Mapping[Form, int]]]] = {
    "task retry": (task_retry, _SEEDS),
    "flow retry": (flow_retry, _SEEDS),
    "flow-run retry": (flow_run_retry, _SEEDS),
    "killed worker": (killed_worker, _SEEDS),
    "two executors": (two_executors, _SEEDS),
    "result store": (broken_store, _SEEDS),
    "cancelled, and goes on": (cancelled, _SEEDS),
    "zombie": (zombie, _FEW),
    _OTHER: (other_arguments, _SEEDS),
}
"""Name to the way, and how often it is gone."""


class World:
    """One lane."""

    def __init__(  # noqa: PLR0913, PLR0917 - what the lane has opened
        self,
        address: str,
        name: str,
        folder: Path,
        truth: Truth,
        zygotes: tuple[Zygote, Zygote],
        proxy: FaultProxy,
        api: httpx.Client,
        threads: ThreadPoolExecutor,
    ) -> None:
        """Take what the lane has opened."""
        self.address = address
        self.name = name
        self.folder = folder
        self.zygotes = zygotes
        self.proxy = proxy
        self.api = api
        self.threads = threads
        self._truth = truth
        self._next = itertools.count(1)
        self._flow = self.post("/flows/", {"name": "settle"})["id"]

    def new_row(self) -> int:
        """Return a row that nobody has counted up."""
        k = next(self._next)
        self._truth.prepare(k)
        return k

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask Prefect, again while it is busy."""
        for pause in (0.1, 0.5, 1.0, 2.0, 4.0, None):
            answer = self.api.post(path, json=body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or pause is None:
                break
            time.sleep(pause)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def get(self, path: str) -> dict[str, Any]:
        """Look something up."""
        answer = self.api.get(path)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Go one way with a new flow run, and compare what its executors said with the truth."""
        pending = {"flow_id": self._flow, "state": {"type": "PENDING"}}
        flow_run = str(self.post("/flow_runs/", pending)["id"])
        job = Job(self, case.side, self.new_row(), flow_run, dice)
        way, _ = WAYS[case.given["way"]]
        ended = way(job)
        said = [word for child in ended for word in child.said]
        reported = Report.COMMITTED if WRITTEN in said else Report.NOTHING
        refused = case.given["way"] == _OTHER
        held = self._truth.of(job.k, job.flow_run, "0" if refused else 0)
        verdict = ground.judge(reported, held, ours=case.side is Side.OURS)
        silent = sum(WRITTEN not in child.said for child in ended)
        odd = Verdict(
            wrong=int(refused and REFUSED not in said),
            unresolved=silent if case.side is Side.OURS else 0,
            why=f"children ended {ended}" if silent or (refused and REFUSED not in said) else "",
        )
        killed = sum(child.killed for child in ended)
        return total(verdict, odd, counted={"executors": len(ended), "killed": killed})
