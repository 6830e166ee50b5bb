"""kill -9 at every named point and at random times; then a retry, as Prefect makes one."""

import contextlib
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from spanctl.errors import KeyClosedError
from spanctl.ledger.keys import OperationKey
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.campaign import failpoints, ground
from tests.campaign.ground import Report, Truth
from tests.campaign.model import Case, Form, Side, Stage, Verdict, total
from tests.campaign.zygote import Ended, Say, Zygote
from tests.faults import raw
from tests.faults.proxy import FaultProxy, black_hole

_APPLIED: Final = "while commit is answered"
_SEEDS: Final = {Form.FULL: 25, Form.SHORT: 1}
_RANDOM: Final = {Form.FULL: 1_200, Form.SHORT: 8}
"""More than a thousand: some children end before their time."""
_NAIVE_RANDOM: Final = {Form.FULL: 50, Form.SHORT: 0}
_STEPS: Final = 3
_MUTATING: Final = ("before begin", "after begin")
_MODULES: Final = (
    "google.cloud.spanner",
    "spanctl.spanner.run",
    "tests.campaign.kills",
    "tests.faults.raw",
)
_REPLY_IS_LATE: Final = 0.05


class Kills:
    """The campaign."""

    name = "kills"
    about = (
        "A child runs one operation (three, where the time of the kill is random) and is killed by"
        " SIGKILL: before and after each RPC, after Commit was applied but not answered, before the"
        " result returns, before and after the leases are closed, and at random times between its"
        " start and its end. Then either the same operations are run again, as a retry would, or"
        " all is resolved, as `txn resolve --all` does, and what came out as not committed is tried"
        " again in vain. The judge compares what the child had said, and what came afterwards,"
        " with rows, events, receipts and leases. *naive* is `run_in_transaction`, run again after"
        " the kill."
    )
    lanes = 2

    def cases(self, form: Form) -> Sequence[Case]:
        """Every point with every seed, then random times; both sides."""
        seeds = range(_SEEDS[form])
        points = (*failpoints.POINTS, _APPLIED)
        naive = itertools.product(seeds, failpoints.NAIVE_POINTS)
        return [
            *(_case(Side.NAIVE, *one) for one in naive),
            *(_case(Side.NAIVE, seed, "random") for seed in range(_NAIVE_RANDOM[form])),
            *(_case(Side.OURS, *one) for one in itertools.product(seeds, points)),
            *(_case(Side.OURS, seed, "random") for seed in range(_RANDOM[form])),
        ]

    def stage(self) -> contextlib.AbstractContextManager[Stage]:
        """Open an emulator."""
        return ground.stage(_lane, ground.OBLIGING)


def _case(side: Side, seed: int, point: str) -> Case:
    return Case(f"{point}/{seed}", {"point": point}, side)


# -- in the child


def work(  # noqa: PLR0913 - as its zygote is told
    say: Say, *, address: str, name: str, root: str, keys: list[int], point: str
) -> None:
    """Run one step for each key, and say what was reported."""
    if point in failpoints.POINTS:
        failpoints.arm(point)
    body = ground.mutate if point in _MUTATING else ground.count_up
    say("begun")
    with Database(raw.target(address, name)) as database:
        with Run(database, root) as run:
            for k in keys:
                if point == _APPLIED:
                    say("sending")
                run.step(ground.STEP, partial(body, k=k), options=ground.PROMPT)
                say(k)
        say("closed")


def work_naively(  # noqa: PLR0913 - as above
    say: Say, *, address: str, name: str, root: str, keys: list[int], point: str
) -> None:
    """The same with Google's own client."""
    del root
    if point in failpoints.NAIVE_POINTS:
        failpoints.arm_naive(point)
    say("begun")
    with raw.database(address, name, checked=False) as database:
        for k in keys:
            database.run_in_transaction(ground.count_up_naively, k=k)
            say(k)


_WORK: Final = {
    Side.OURS: "tests.campaign.kills:work",
    Side.NAIVE: "tests.campaign.kills:work_naively",
}


# -- around it


@contextlib.contextmanager
def _lane(address: str) -> Iterator["World"]:
    """Open a database, a zygote, and a proxy that answers no commit."""
    with (
        Zygote(_MODULES) as zygote,
        ground.ledger(address) as name,
        Truth(address, name) as truth,
        FaultProxy(address) as proxy,
        raw.database(address, name, checked=False) as naive,
    ):
        yield World(address, name, truth, zygote, proxy, naive)


class World:
    """One lane."""

    def __init__(  # noqa: PLR0913, PLR0917 - what the lane has opened
        self,
        address: str,
        name: str,
        truth: Truth,
        zygote: Zygote,
        proxy: FaultProxy,
        naive: Any,
    ) -> None:
        """Take what the lane has opened, and find out how long a child lives."""
        self._address = address
        self._name = name
        self._truth = truth
        self._zygote = zygote
        self._proxy = proxy
        self._naive = naive
        self._next = itertools.count(1)
        self._lifetimes: dict[Side, float] = {}

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Kill a child, run its operations again, compare."""
        point = case.given["point"]
        keys = [next(self._next) for _ in range(_STEPS if point == "random" else 1)]
        root = f"kills-{keys[0]}"
        self._truth.prepare(*keys)
        ended = self._killed(case.side, point, root, keys, dice)
        if case.side is Side.NAIVE:
            self._again_naively(keys, ended)
            verdicts = [
                ground.judge(Report.COMMITTED, self._truth.of(k, root), ours=False) for k in keys
            ]
            return total(*verdicts, counted=_counted(ended))
        before = [self._judge(root, ordinal, k, ended) for ordinal, k in enumerate(keys)]
        began = time.monotonic()
        if dice.random() < 1 / 2:
            after, what = self._again(root, point, keys), "the retry"
        else:
            after, what = self._resolved(root, keys), "resolving, with two surveys"
        took = time.monotonic() - began
        return total(*before, *after, counted=_counted(ended), timed={what: took})

    # -- the death

    def _killed(
        self, side: Side, point: str, root: str, keys: list[int], dice: random.Random
    ) -> Ended:
        given: dict[str, Any] = {"name": self._name, "root": root, "keys": keys, "point": point}
        if point == _APPLIED:
            self._proxy.clear()
            self._proxy.add(
                "Commit", black_hole(forward=True), when=lambda peek: "events" in peek.writes
            )
            return self._applied(given)
        given["address"] = self._address
        if point != "random":
            ended = self._zygote.run(_WORK[side], **given)
            assert ended.killed, (point, ended)
            return ended
        after = dice.uniform(0.0, self._lifetime(side))
        return self._zygote.run(_WORK[side], kill_on="begun", after=after, **given)

    def _applied(self, given: dict[str, Any]) -> Ended:
        """Kill it once the server has committed; too early a kill is tried again, later."""
        late = _REPLY_IS_LATE
        while True:
            ended = self._zygote.run(
                _WORK[Side.OURS],
                kill_on="sending",
                after=late,
                address=self._proxy.address,
                **given,
            )
            if any(one.upstream == "OK" for one in self._commits()):
                return ended
            late *= 2

    def _commits(self) -> list[Any]:
        return [one for one in self._proxy.rpcs("Commit") if "events" in one.peek.writes]

    def _lifetime(self, side: Side) -> float:
        """Return how long a child lives that nobody kills, measured once."""
        if side not in self._lifetimes:
            self._lifetimes[side] = min(self._lives(side) for _ in range(2))
        return self._lifetimes[side]

    def _lives(self, side: Side) -> float:
        keys = [next(self._next) for _ in range(_STEPS)]
        self._truth.prepare(*keys)
        given = {"name": self._name, "root": f"kills-{keys[0]}", "keys": keys, "point": ""}
        ended = self._zygote.run(_WORK[side], address=self._address, **given)
        assert ended.status == 0, ended
        return ended.lived

    # -- afterwards

    def _judge(self, root: str, ordinal: int, k: int, ended: Ended) -> Verdict:
        said = Report.COMMITTED if k in ended.said else Report.NOTHING
        held = self._truth.of(k, root, ordinal)
        return ground.judge(said, held, counts=held.value > 0)

    def _again(self, root: str, point: str, keys: list[int]) -> list[Verdict]:
        body = ground.mutate if point in _MUTATING else ground.count_up
        verdicts = []
        with Database(raw.target(self._address, self._name)) as database:
            run = Run(database, root)
            for ordinal, k in enumerate(keys):
                step = partial(run.step, ground.STEP, partial(body, k=k), options=ground.PROMPT)
                said, error = ground.reported(step)
                held = self._truth.of(k, root, ordinal)
                verdict = ground.judge(said, held, counts=point not in _MUTATING)
                if said != Report.COMMITTED:
                    verdict = total(verdict, Verdict(unresolved=1, why=repr(error)))
                verdicts.append(verdict)
            run.close()
        return verdicts

    def _resolved(self, root: str, keys: list[int]) -> list[Verdict]:
        """Resolve instead, and see that what is fenced is final."""
        told, left = ground.resolve(self._truth)
        verdicts = [Verdict(unresolved=left, why=f"{left} still open" if left else "")]
        with (
            Database(raw.target(self._address, self._name)) as database,
            Run(database, root) as run,
        ):
            for ordinal, k in enumerate(keys):
                said = told.get(OperationKey(root, (), ground.STEP, ordinal), Report.NOTHING)
                held = self._truth.of(k, root, ordinal)
                verdicts.append(ground.judge(said, held, counts=held.value > 0))
                if said == Report.NOT_COMMITTED:
                    verdicts.append(self._stays_closed(run, root, ordinal, k))
        return verdicts

    def _stays_closed(self, run: Run, root: str, ordinal: int, k: int) -> Verdict:
        operation = OperationKey(root, (), ground.STEP, ordinal)
        (call,) = run.lease([operation])
        said, error = ground.reported(
            lambda: run.execute(call, partial(ground.count_up, k=k), expect_replay=True)
        )
        verdict = ground.judge(said, self._truth.of(k, root, ordinal))
        if isinstance(error, KeyClosedError):
            return verdict
        return total(verdict, Verdict(wrong=1, why=f"a closed key: {said}, {error!r}"))

    def _again_naively(self, keys: list[int], ended: Ended) -> None:
        for k in keys:
            if k not in ended.said:
                self._naive.run_in_transaction(ground.count_up_naively, k=k)


def _counted(ended: Ended) -> dict[str, int]:
    assert not ended.hung, ended
    assert ended.killed or ended.status == 0, ended
    return {"killed": int(ended.killed), "ended before the kill": int(not ended.killed)}
