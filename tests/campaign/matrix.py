"""Every status, applied or not, at every RPC: one operation each, then once more as a retry."""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from grpc import StatusCode

from spanctl.errors import SpanctlError
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.campaign import ground
from tests.campaign.ground import Report, Truth
from tests.campaign.model import Case, Form, Side, Stage, Verdict, total
from tests.faults import raw
from tests.faults.peek import Peek
from tests.faults.proxy import FaultProxy, fail, lose_reply

CODES: Final = tuple(code.name for code in StatusCode if code is not StatusCode.OK)
_SEEDS: Final = {Form.FULL: 7, Form.SHORT: 1}
_ATTEMPTS: Final = 3
_NAIVE_POINTS: Final = ("first statement", "later statement", "commit")


@dataclass(frozen=True, slots=True)
class Point:
    """An RPC of an operation: its method, how it is told from others, and a body that sends it."""

    method: str
    when: Callable[[Peek], bool]
    body: Callable[[Any, int], None] = ground.count_up
    anew: bool = False
    """Whether it is only sent by a client that is new."""


POINTS: Final = {
    "session": Point("CreateSession", lambda _: True, anew=True),
    "lease": Point("Commit", lambda peek: "spanctl_intents" in peek.writes),
    "receipt": Point("StreamingRead", lambda peek: peek.sql == "spanctl_receipts"),
    "begin": Point("BeginTransaction", lambda peek: peek.begins, ground.mutate),
    "first statement": Point("ExecuteStreamingSql", lambda peek: peek.begins),
    "later statement": Point("ExecuteSql", lambda peek: peek.transaction != ""),
    "read": Point("StreamingRead", lambda peek: peek.transaction != "", ground.count_up_after_read),
    "commit": Point("Commit", lambda peek: "events" in peek.writes),
    "rollback": Point("Rollback", lambda _: True, ground.fail_late),
}


class Matrix:
    """The campaign."""

    name = "matrix"
    about = (
        "Every gRPC status at every RPC of an operation (creating the session, lease, receipt"
        " look-up, begin, statements, read, commit, rollback), given in place of the server's"
        " answer after the server did it, or without the server seeing the request; one to four"
        " times in a row. Then the operation is run once more without a fault, as a retry would."
        " The judge compares both reports with rows, events and receipts. *naive* is"
        " `run_in_transaction` in a loop of three attempts, as a task with retries makes it."
    )
    lanes = 2

    def cases(self, form: Form) -> Sequence[Case]:
        """All statuses at all points, several times; the control once."""
        seeds = range(_SEEDS[form])
        every = itertools.product(seeds, POINTS, CODES, (True, False))
        ours = [_case(Side.OURS, *one) for one in every]
        naive = itertools.product((0,), _NAIVE_POINTS, CODES, (True, False))
        control = [_case(Side.NAIVE, *one) for one in naive if one[2] != "ABORTED"]
        if form is Form.SHORT:
            ours = [case for case in ours if case.given["applied"] or "commit" in case.name][::2]
            control = [case for case in control if case.name.startswith("commit/")][::3]
        return control + ours

    def stage(self) -> contextlib.AbstractContextManager[Stage]:
        """Open an emulator."""
        return ground.stage(_lane, ground.OBLIGING)


def _case(side: Side, seed: int, point: str, code: str, applied: bool) -> Case:
    name = f"{point}/{code}/{'applied' if applied else 'not applied'}/{seed}"
    return Case(name, {"point": point, "code": code, "applied": applied}, side)


@contextlib.contextmanager
def _lane(address: str) -> Iterator["World"]:
    """Open a database, and clients behind a proxy of its own."""
    with (
        ground.ledger(address) as name,
        Truth(address, name) as truth,
        FaultProxy(address) as proxy,
        Database(raw.target(proxy.address, name)) as database,
        raw.database(proxy.address, name, checked=False) as naive,
    ):
        yield World(name, truth, proxy, database, naive)


class World:
    """One lane: clients that live through all of its faults."""

    def __init__(
        self, name: str, truth: Truth, proxy: FaultProxy, database: Database, naive: Any
    ) -> None:
        """Take what the lane has opened."""
        self._name = name
        self._truth = truth
        self._proxy = proxy
        self._database = database
        self._naive = naive
        self._next = itertools.count(1)

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Inject, run, compare; run again, compare again."""
        k = next(self._next)
        root = f"matrix-{k}"
        self._truth.prepare(k)
        point = POINTS[case.given["point"]]
        times = dice.choice((1, 1, 2, 4))
        inject = lose_reply if case.given["applied"] else fail
        rule = self._proxy.add(
            point.method, inject(case.given["code"]), count=times, when=point.when
        )
        try:
            if case.side is Side.NAIVE:
                verdict = self._naively(k, root)
            else:
                verdict = self._ours(k, root, point)
        finally:
            self._proxy.clear()
        return total(verdict, counted={"faults injected": rule.hits})

    def _ours(self, k: int, root: str, point: Point) -> Verdict:
        if point.anew:
            with Database(raw.target(self._proxy.address, self._name)) as database:
                first = self._attempt(database, k, root, point.body)
        else:
            first = self._attempt(self._database, k, root, point.body)
        self._proxy.clear()
        body = ground.count_up if point.body is ground.fail_late else point.body
        again = self._attempt(self._database, k, root, body)
        if again.unresolved or not self._truth.of(k, root).events:
            return total(first, Verdict(lost=1, why=f"the retry did not commit {root}"))
        return total(first, again)

    def _attempt(
        self, database: Database, k: int, root: str, body: Callable[[Any, int], None]
    ) -> Verdict:
        run = Run(database, root)
        said, _ = ground.reported(
            lambda: run.step(ground.STEP, partial(body, k=k), options=ground.PROMPT)
        )
        with contextlib.suppress(SpanctlError):  # a lease that stays open is harmless
            run.close()
        held = self._truth.of(k, root)
        return ground.judge(said, held, counts=body is not ground.mutate)

    def _naively(self, k: int, root: str) -> Verdict:
        for _ in range(_ATTEMPTS):
            said, _error = ground.reported(
                lambda: self._naive.run_in_transaction(ground.count_up_naively, k=k, timeout_secs=5)
            )
            if said == Report.COMMITTED:
                break
        return ground.judge(said, self._truth.of(k, root), ours=False)
