"""What a campaign is: cases by seed, a judge, and figures that nobody writes by hand."""

import itertools
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class Side(StrEnum):
    """Who is tried: spanctl, or code as people write it, which has to go wrong."""

    OURS = "spanctl"
    NAIVE = "naive"


class Form(StrEnum):
    """How much is run."""

    FULL = "full"
    SHORT = "short"


@dataclass(frozen=True, slots=True)
class Case:
    """One try. Its name, with the campaign's seed, says all that happens in it.

    Attributes:
        name: Unique in its campaign.
        given: What distinguishes it, as JSON can hold it.
        side: Who is tried.
    """

    name: str
    given: Mapping[str, Any] = field(default_factory=dict)
    side: Side = Side.OURS

    def dice(self, seed: int) -> random.Random:
        """Return the case's own source of chance."""
        return random.Random(f"{seed}/{self.side}/{self.name}")  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judge found after one case.

    Attributes:
        wrong: Answers that are not the database's.
        duplicate: Writes that were applied more than once.
        lost: Writes that were reported and are not there.
        unresolved: Outcomes that stayed open.
        counted: Other things by name, summed in the report.
        timed: Seconds by name; the report tells median and longest.
        why: What was seen, when anything is wrong.
    """

    wrong: int = 0
    duplicate: int = 0
    lost: int = 0
    unresolved: int = 0
    counted: Mapping[str, int] = field(default_factory=dict)
    timed: Mapping[str, float] = field(default_factory=dict)
    why: str = ""

    @property
    def bad(self) -> int:
        """How much is not as it must be."""
        return self.wrong + self.duplicate + self.lost + self.unresolved


def in_turn(what: str, kinds: Sequence[str], number: int, *, before: str = "") -> "list[Case]":
    """Return so many cases, each of the next kind, which is given to it as ``what``."""
    turns = itertools.islice(itertools.cycle(kinds), number)
    return [Case(f"{before}{kind}/{seed}", {what: kind}) for seed, kind in enumerate(turns)]


def total(*verdicts: Verdict, **more: Any) -> Verdict:
    """Add verdicts up."""
    return Verdict(
        wrong=sum(one.wrong for one in verdicts),
        duplicate=sum(one.duplicate for one in verdicts),
        lost=sum(one.lost for one in verdicts),
        unresolved=sum(one.unresolved for one in verdicts),
        why="; ".join(one.why for one in verdicts if one.why),
        **more,
    )


class World(Protocol):
    """Where one lane's cases happen, one after the other."""

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Let a case happen and judge it. Whatever it raises is the harness's own failure."""
        ...


class Stage(Protocol):
    """What the lanes of a campaign share: servers, in most."""

    def lane(self) -> AbstractContextManager[World]:
        """Open a world of its own for one lane."""
        ...


class Campaign(Protocol):
    """One question that many cases answer.

    Attributes:
        name: What the command calls it.
        about: One paragraph for the report: what happens, and what the judge counts.
        lanes: How many cases run side by side.
    """

    name: str
    about: str
    lanes: int

    def cases(self, form: Form) -> Sequence[Case]:
        """Return what is to be run, in order."""
        ...

    def stage(self) -> AbstractContextManager[Stage]:
        """Open what the lanes share."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A finished case, as the journal keeps it."""

    name: str
    side: Side
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Tally:
    """The sum of one side's verdicts."""

    side: Side
    cases: int
    wrong: int
    duplicate: int
    lost: int
    unresolved: int
    counted: Mapping[str, int]
    timed: Mapping[str, tuple[float, ...]]

    @property
    def bad(self) -> int:
        """How much is not as it must be."""
        return self.wrong + self.duplicate + self.lost + self.unresolved

    @classmethod
    def of(cls, side: Side, done: Iterable[Done]) -> "Tally":
        """Sum up what one side has done."""
        verdicts = [one.verdict for one in done if one.side is side]
        counted: Counter[str] = Counter()
        timed: dict[str, list[float]] = defaultdict(list)
        for verdict in verdicts:
            counted.update(verdict.counted)
            for name, seconds in verdict.timed.items():
                timed[name].append(seconds)
        return cls(
            side,
            len(verdicts),
            *(sum(getattr(one, what) for one in verdicts) for what in COUNTS),
            counted=dict(counted),
            timed={name: tuple(taken) for name, taken in timed.items()},
        )

    def median(self, name: str) -> float:
        """Return the median of one of the timed figures, in seconds."""
        return statistics.median(self.timed[name])


COUNTS = ("wrong", "duplicate", "lost", "unresolved")
