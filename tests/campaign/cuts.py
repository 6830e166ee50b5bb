"""TCP connections that are reset at any time, or at a chosen RPC, and a server that is away."""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from spanctl.errors import SpanctlError
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.campaign import ground
from tests.campaign.ground import Report, Truth
from tests.campaign.matrix import POINTS
from tests.campaign.model import Case, Form, Stage, Verdict, in_turn, total
from tests.faults import raw
from tests.faults.proxy import FaultProxy, cut

_STEPS: Final = 4
_CASES: Final = {Form.FULL: 240, Form.SHORT: 12}
_KINDS: Final = ("at any time", "at an RPC", "and away")
_LONGEST: Final = 0.05
_AWAY: Final = 0.5
_MOST: Final = 100


class Cuts:
    """The campaign."""

    name = "cuts"
    about = (
        f"A client runs {_STEPS} operations through a proxy whose TCP connections are reset: at"
        " random times, at a chosen RPC before or after the server has done it, or at a random"
        " time with the server away for up to half a second. The judge compares every report with"
        " rows, events and receipts, and again after a retry without cuts."
    )
    lanes = 2

    def cases(self, form: Form) -> Sequence[Case]:
        """The three kinds in turn."""
        return in_turn("kind", _KINDS, _CASES[form])

    def stage(self) -> contextlib.AbstractContextManager[Stage]:
        """Open an emulator."""
        return ground.stage(_lane, ground.OBLIGING)


@contextlib.contextmanager
def _lane(address: str) -> Iterator["World"]:
    """Open a database, and a client behind a proxy of its own."""
    with (
        ground.ledger(address) as name,
        Truth(address, name) as truth,
        FaultProxy(address) as proxy,
        Database(raw.target(proxy.address, name)) as database,
    ):
        yield World(truth, proxy, database)


class World:
    """One lane: one client that lives through all of its cuts."""

    def __init__(self, truth: Truth, proxy: FaultProxy, database: Database) -> None:
        """Take what the lane has opened."""
        self._truth = truth
        self._proxy = proxy
        self._database = database
        self._next = itertools.count(1)

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Cut while operations run, compare; run them again, compare again."""
        keys = [next(self._next) for _ in range(_STEPS)]
        root = f"cuts-{keys[0]}"
        self._truth.prepare(*keys)
        over = threading.Event()
        made: list[int] = []
        cutting = threading.Thread(target=self._cut, args=(case.given["kind"], dice, over, made))
        cutting.start()
        first = self._attempt(root, keys, {Report.COMMITTED, Report.NOT_COMMITTED})
        over.set()
        cutting.join()
        cuts = sum(made) + sum("cut" in one.action for one in self._proxy.rpcs())
        self._proxy.clear()
        again = self._attempt(root, keys, {Report.COMMITTED})
        return total(*first, *again, counted={"cuts while operations ran": cuts})

    def _cut(self, kind: str, dice: random.Random, over: threading.Event, made: list[int]) -> None:
        """Cut until the operations are over, and note each cut that came before that."""
        if kind == "at an RPC":
            point = POINTS[dice.choice(("lease", "first statement", "later statement", "commit"))]
            self._proxy.add(
                point.method,
                cut(forward=dice.random() < 1 / 2),
                nth=dice.randint(1, _STEPS),
                when=point.when,
            )
            return
        for _ in range(_MOST):  # while a network never holds, UNKNOWN is the right answer
            time.sleep(dice.uniform(0.0, _LONGEST))
            made.append(int(not over.is_set()))
            self._proxy.cut()
            if kind == "and away":
                self._proxy.refuse()
                time.sleep(dice.uniform(0.0, _AWAY))
                self._proxy.refuse(refusing=False)
            if over.is_set() or kind == "and away":
                return

    def _attempt(self, root: str, keys: list[int], fine: set[str]) -> list[Verdict]:
        run = Run(self._database, root)
        verdicts = []
        for ordinal, k in enumerate(keys):
            said, error = ground.reported(
                partial(
                    run.step,
                    ground.STEP,
                    partial(ground.count_up, k=k),
                    options=ground.PROMPT,
                )
            )
            verdict = ground.judge(said, self._truth.of(k, root, ordinal))
            if said not in fine:
                verdict = total(verdict, Verdict(unresolved=1, why=f"{said}: {error!r}"))
            verdicts.append(verdict)
        with contextlib.suppress(SpanctlError):  # leases that stay open are harmless
            run.close()
        return verdicts
