"""A commit that is held back on its way, and lands while others settle the same operation."""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from spanctl.audit import settling
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import Provenance
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.campaign import ground
from tests.campaign.ground import Truth
from tests.campaign.matrix import POINTS
from tests.campaign.model import Case, Form, Stage, Verdict, in_turn, total
from tests.faults import raw
from tests.faults.proxy import FaultProxy, Rule, hold

_CASES: Final = {Form.FULL: 540, Form.SHORT: 12}
_AGAINST: Final = ("a fence", "another executor", "its own replay")
_WINDOW: Final = (-0.01, 0.03)
"""Seconds from the start of the settling to the landing."""


class Races:
    """The campaign."""

    name = "races"
    about = (
        "A proxy holds a Commit back and lets it go while the same operation is settled by a fence"
        " (as `txn resolve --force` places it), by another executor of the same key, or by its own"
        " executor, whose connection was cut and who replays. The judge compares what both sides"
        " report with rows, events and receipts: they must agree, whoever came first."
    )
    lanes = 2

    def cases(self, form: Form) -> Sequence[Case]:
        """The three opponents in turn."""
        return in_turn("against", _AGAINST, _CASES[form], before="against ")

    def stage(self) -> contextlib.AbstractContextManager[Stage]:
        """Open an emulator."""
        return ground.stage(_lane, ground.OBLIGING)


@contextlib.contextmanager
def _lane(address: str) -> Iterator["World"]:
    """Open a database, one client behind a proxy, and one past it."""
    with (
        ground.ledger(address) as name,
        Truth(address, name) as truth,
        FaultProxy(address) as proxy,
        Database(raw.target(proxy.address, name)) as late,
        Database(raw.target(address, name)) as other,
    ):
        yield World(truth, proxy, late, other)


class World:
    """One lane."""

    def __init__(self, truth: Truth, proxy: FaultProxy, late: Database, other: Database) -> None:
        """Take what the lane has opened."""
        self._truth = truth
        self._proxy = proxy
        self._late = late
        self._other = other
        self._next = itertools.count(1)

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Hold, settle, let go; compare both reports with the truth."""
        k = next(self._next)
        root = f"races-{k}"
        self._truth.prepare(k)
        commit = POINTS["commit"]
        rule = self._proxy.add(commit.method, hold(), when=commit.when)
        said: list[str] = []
        late = threading.Thread(target=lambda: said.append(self._step(self._late, root, k)))
        late.start()
        rule.wait()
        landing = dice.uniform(*_WINDOW)
        other = self._settle(case.given["against"], root, k, rule, landing)
        rule.release()
        late.join()
        landed = rule_answer(self._proxy)
        self._proxy.clear()
        held = self._truth.of(k, root)
        reports = [*said, *([] if other is None else [other])]
        verdicts = [ground.judge(one, held) for one in reports]
        if len(set(reports)) > 1:
            verdicts.append(Verdict(wrong=1, why=f"{k}: they disagree: {reports}"))
        return total(
            *verdicts,
            counted={
                f"against {case.given['against']}, the late commit landed": int(landed == "OK"),
                f"against {case.given['against']}, it came too late": int(landed != "OK"),
            },
        )

    def _step(self, database: Database, root: str, k: int) -> str:
        run = Run(database, root)
        body = partial(ground.count_up, k=k)
        said, _ = ground.reported(lambda: run.step(ground.STEP, body, options=ground.PROMPT))
        run.close()
        return said

    def _settle(self, against: str, root: str, k: int, rule: Rule, landing: float) -> str | None:
        """Settle the operation, and have the commit land at its time; return what is reported."""
        letting_go = threading.Timer(max(0.0, landing), rule.release, kwargs={"wait": False})
        letting_go.start()
        time.sleep(max(0.0, -landing))
        try:
            match against:
                case "a fence":
                    return self._fence(root)
                case "another executor":
                    return self._step(self._other, root, k)
                case _:
                    self._proxy.cut()
                    return None
        finally:
            letting_go.join()

    def _fence(self, root: str) -> str:
        operation = OperationKey(root, (), ground.STEP, 0)
        done = settling.settle(self._other, operation, None, provenance=Provenance(), force=True)
        return ground.SAID[done.outcome]


def rule_answer(proxy: FaultProxy) -> str:
    """Return what the server said to the commit that was held."""
    (held,) = (one for one in proxy.rpcs("Commit") if one.action == "hold")
    return held.upstream
