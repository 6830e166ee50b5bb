"""Runs that live, and look dead: slow, frozen, elsewhere, with other clocks. Nobody ends them."""

import contextlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spanctl.spanner import receipts, recoveries
from tests.campaign import ground, mortal
from tests.campaign.batches import STEPS, Batch, Kind
from tests.campaign.dying import RELEASED
from tests.campaign.ground import Truth
from tests.campaign.model import Case, Form, Side, Verdict, total
from tests.campaign.mortal import BOUND, PLACES, send
from tests.faults.emulator import Emulator

_NAMESPACE: Final = "other pid namespace"
_AHEAD: Final = "clock 30 s ahead"
_BEHIND: Final = "clock 30 s behind"
_SHIFTS: Final = {_AHEAD: 30, _BEHIND: -30}
_FROZEN: Final = 4 * BOUND
"""Less than the bound, to which an emulator's minute for open transactions is added."""
_PRELOADED: Final = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift;
__attribute__((constructor)) static void begin(void) {
    const char *told = getenv("CLOCK_SHIFT");
    shift = told ? atol(told) : 0;
}
int clock_gettime(clockid_t which, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(which, at);
    if (!code && which == CLOCK_REALTIME) at->tv_sec += shift;
    return code;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""
"""What ``faketime`` does, where it isn't installed and a C compiler is."""


def _kind(place: str, waits: float, point: str = "between steps", *, batches: int = 2) -> Kind:
    return Kind(place=place, point=point, waits=waits, dies=(), runs=10, batches=batches)


KINDS: Final[dict[str, Kind]] = {
    "slow": _kind(_NAMESPACE, 3 * BOUND, batches=4),
    "slow in a body": _kind(_NAMESPACE, BOUND - 1, "body", batches=4),
    "slow on another host": _kind("other host", 3 * BOUND, batches=2),
    "frozen": _kind(_NAMESPACE, 0, batches=4),
    "frozen here": _kind("here", 0),
    _AHEAD: _kind(_AHEAD, 2 * BOUND, batches=3),
    _BEHIND: _kind(_BEHIND, 2 * BOUND, batches=3),
}


class FalseDeath:
    """The campaign."""

    name = "false-death"
    about = (
        "Batches of runs on a worker that live, and look as if they did not, beside a recoverer"
        f" that looks for dead ones always. Its bound is {BOUND:.0f} s, to which an emulator's"
        " minute for open transactions is added. Their engines are here,"
        " in another pid namespace or on another host, so that there is only their heartbeat: slow"
        f" between their steps ({3 * BOUND:.0f} s) or in a body, stopped by SIGSTOP for"
        f" {_FROZEN:.0f} s, or with a clock that is 30 s ahead or behind (a preloaded library, as"
        " `faketime` is one). *wrong* is a run that was run again, fenced or ended."
    )
    lanes = 1

    def cases(self, form: Form) -> Sequence[Case]:
        """Batches of every kind; none in the short form."""
        if form is Form.SHORT:
            return []
        return [
            Case(f"{name}/{number}", {"kind": name})
            for name, kind in KINDS.items()
            for number in range(kind.batches)
            if shutil.which("cc") or kind.place not in _SHIFTS
        ]

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
    def lane(self) -> Iterator["Living"]:
        """Open all else."""
        with (
            tempfile.TemporaryDirectory(prefix="spanctl-mortal-") as folder,
            ground.ledger(self.address) as name,
            Truth(self.address, name) as truth,
            mortal.opened(self.address, name, Path(folder), _places(Path(folder))) as world,
        ):
            yield Living(world, truth)


def _places(folder: Path) -> Mapping[str, Sequence[str]]:
    """Return where engines run, those with other clocks too."""
    if (compiler := shutil.which("cc")) is None:
        return PLACES
    source, made = folder / "shift.c", folder / "shift.so"
    source.write_text(_PRELOADED)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    shifted = {
        name: (*PLACES[_NAMESPACE], "env", f"LD_PRELOAD={made}", f"CLOCK_SHIFT={shift}")
        for name, shift in _SHIFTS.items()
    }
    return {**PLACES, **shifted}


@dataclass(slots=True)
class Living:
    """The lane."""

    world: mortal.World
    truth: Truth
    next: int = 1

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Have a batch of runs look dead, and see that they are left alone."""
        kind = KINDS[case.given["kind"]]
        keys = [
            range(self.next + STEPS * one, self.next + STEPS * (one + 1))
            for one in range(kind.runs)
        ]
        self.next += STEPS * kind.runs
        self.world.at(kind.place)
        return _Batch(self.world, self.truth, kind, dice, keys).judged(case.side)


class _Batch(Batch):
    """One batch."""

    def judged(self, side: Side) -> Verdict:
        """Let it live, and judge it."""
        del side
        self.world.recover()
        self._ask()
        self._come(1)
        if not self.kind.waits:
            engines = self.world.engines(self.kind.place)
            send(engines, signal.SIGSTOP)
            time.sleep(_FROZEN)
            send(engines, signal.SIGCONT)
            (self.folder / RELEASED).touch()
        self.world.are_in(self.runs, ["Completed", "Failed"])
        self._count("living runs", len(self.runs))
        return total(self._verdict(), self._left(), self._touched(), counted=self.counted)

    def _touched(self) -> Verdict:
        """Count the runs that somebody took for dead."""
        database, told = self.truth.database, []
        for run in self.runs:
            again = recoveries.read(database, run)
            ended = [one for one in self.world.states(run) if one["type"] == "CRASHED"]
            kinds = {entry.kind.value for entry in receipts.of_run(database, run)}
            if again or ended or kinds != {"COMMITTED"}:
                told.append(f"{run}: {again} {ended} {kinds}")
        self._count("taken for dead", len(told))
        return Verdict(wrong=len(told), why="; ".join(told[:2]))
