"""Ctrl-C and SIGTERM at any moment: roll back or find out, then say which."""

import contextlib
import itertools
import random
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from spanctl.ledger.receipt import Outcome
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.campaign import ground
from tests.campaign.ground import Report, Truth
from tests.campaign.model import Case, Form, Stage, Verdict, total
from tests.campaign.zygote import Ended, Say, Zygote
from tests.faults import raw
from tests.faults.proxy import FaultProxy

OFFSETS: Final = 20
_SEEDS: Final = {Form.FULL: 5, Form.SHORT: 1}
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_STEPS: Final = 3
_INTERRUPTED: Final = 130
_MODULES: Final = (
    "spanctl.spanner.run",
    "spanctl_cli.signals",
    "tests.campaign.signals",
    "tests.faults.raw",
)


class Signals:
    """The campaign."""

    name = "signals"
    about = (
        f"A child runs {_STEPS} operations and gets Ctrl-C or SIGTERM at one of {OFFSETS} offsets"
        " of its life. It says what became of the operation that was interrupted; the judge"
        " compares that with rows, events and receipts, then runs the operations again. A"
        " transaction that was neither committed nor rolled back counts as unresolved."
    )
    lanes = 2

    def cases(self, form: Form) -> Sequence[Case]:
        """Each offset, each signal."""
        every = itertools.product(range(_SEEDS[form]), _SIGNALS, range(OFFSETS))
        return [
            Case(f"{number.name}/{offset}/{seed}", {"signal": number, "offset": offset})
            for seed, number, offset in every
            if form is Form.FULL or offset % 4 == number % 4
        ]

    def stage(self) -> contextlib.AbstractContextManager[Stage]:
        """Open an emulator."""
        return ground.stage(_lane, ground.OBLIGING)


def work(say: Say, *, address: str, name: str, root: str, keys: list[int]) -> None:
    """Run one step for each key; say what an interruption notes of it."""
    from spanctl_cli import signals

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where this is in background
    signals.arm()
    say("begun")
    with Database(raw.target(address, name)) as database:
        run = Run(database, root)
        for k in keys:
            try:
                run.step(ground.STEP, partial(ground.count_up, k=k), options=ground.PROMPT)
                say(k)
            except BaseException as interruption:  # noqa: BLE001 - told, then ended as Ctrl-C
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                say([k, " ".join(getattr(interruption, "__notes__", ()))])
                raise KeyboardInterrupt from None
        run.close()


@contextlib.contextmanager
def _lane(address: str) -> Iterator["World"]:
    """Open a database, a zygote, and a proxy that keeps a log."""
    with (
        Zygote(_MODULES) as zygote,
        ground.ledger(address) as name,
        Truth(address, name) as truth,
        FaultProxy(address) as proxy,
    ):
        yield World(name, truth, zygote, proxy)


class World:
    """One lane."""

    def __init__(self, name: str, truth: Truth, zygote: Zygote, proxy: FaultProxy) -> None:
        """Take what the lane has opened."""
        self._name = name
        self._truth = truth
        self._zygote = zygote
        self._proxy = proxy
        self._next = itertools.count(1)
        self._lifetime = 0.0

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Interrupt, compare with what is said; run again, compare again."""
        if not self._lifetime:
            self._lifetime = min(self._run(*self._new())[1].lived for _ in range(2))
        part = (case.given["offset"] + dice.random()) / OFFSETS
        root, keys = self._new()
        self._proxy.clear()
        told, ended = self._run(
            root,
            keys,
            kill_on="begun",
            after=part * self._lifetime,
            by=signal.Signals(case.given["signal"]),
        )
        assert not ended.hung, ended
        assert "begun" in ended.said, ended
        assert ended.status in {0, _INTERRUPTED}, ended
        left = self._left()
        first = [
            ground.judge(told.get(k, Report.NOTHING), self._truth.of(k, root, ordinal))
            for ordinal, k in enumerate(keys)
        ]
        began = time.monotonic()
        again = self._again(root, keys)
        open_still = Verdict(unresolved=left, why=f"{left} left to the server" if left else "")
        return total(
            *first,
            open_still,
            *again,
            counted={
                "interrupted": int(ended.status != 0),
                "told of the interrupted operation": sum(
                    isinstance(word, list) and bool(word[1]) for word in ended.said
                ),
            },
            timed={"the next run": time.monotonic() - began},
        )

    def _new(self) -> tuple[str, list[int]]:
        keys = [next(self._next) for _ in range(_STEPS)]
        self._truth.prepare(*keys)
        return f"signals-{keys[0]}", keys

    def _run(self, root: str, keys: list[int], **more: Any) -> tuple[dict[int, str], Ended]:
        """Run a child; return what it told of each key."""
        ended = self._zygote.run(
            "tests.campaign.signals:work",
            address=self._proxy.address,
            name=self._name,
            root=root,
            keys=keys,
            **more,
        )
        told: dict[int, str] = {}
        for word in ended.said:
            if isinstance(word, int):
                told[word] = Report.COMMITTED
            elif isinstance(word, list):
                told[word[0]] = _outcome(word[1])
        return told, ended

    def _left(self) -> int:
        """Count transactions that were begun, and neither committed nor rolled back."""
        log = self._proxy.rpcs()
        ended = {one.transaction for one in log if one.method in {"Commit", "Rollback"}}
        begun = {one.transaction for one in log if one.peek.begins and one.transaction}
        return len(begun - ended)

    def _again(self, root: str, keys: list[int]) -> list[Verdict]:
        run = Run(self._truth.database, root)
        verdicts = []
        for ordinal, k in enumerate(keys):
            body = partial(ground.count_up, k=k)
            said, error = ground.reported(
                partial(run.step, ground.STEP, body, options=ground.PROMPT)
            )
            verdict = ground.judge(said, self._truth.of(k, root, ordinal))
            if said != Report.COMMITTED:
                verdict = total(verdict, Verdict(unresolved=1, why=repr(error)))
            verdicts.append(verdict)
        run.close()
        return verdicts


def _outcome(note: str) -> str:
    """Return the outcome that a note tells: its last words, but for the advice."""
    for outcome in (Outcome.NOT_COMMITTED, Outcome.COMMITTED, Outcome.UNKNOWN):
        if f": {outcome}" in note:
            return ground.SAID[outcome]
    return Report.NOTHING
