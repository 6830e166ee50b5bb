"""Figures: what was measured on both sides, in the same run, and whether the goal was met."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """Repeated measurements of one thing, in one unit."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and the third quartile; the extremes of fewer than four values."""
        if len(self.values) < 4:
            return min(self.values), max(self.values)
        low, _, high = statistics.quantiles(self.values, n=4)
        return low, high


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report.

    Attributes:
        name: What was measured.
        unit: Unit of both samples.
        ours: With spanctl.
        theirs: With what it is compared to; None when there is nothing.
        against: What it is compared to.
        goal: The ratio of the medians, ours to theirs, or without theirs our median, to reach.
        at_least: Whether the goal is a lower bound rather than an upper one.
    """

    name: str
    unit: str
    ours: Sample
    theirs: Sample | None = None
    against: str = ""
    goal: float | None = None
    at_least: bool = False

    @property
    def ratio(self) -> float:
        """Our median over theirs; our median where there is no other."""
        return self.ours.median / (self.theirs.median if self.theirs else 1.0)

    @property
    def verdict(self) -> str:
        """``met``, ``MISSED``, or nothing where there is no goal."""
        if self.goal is None:
            return ""
        met = self.ratio >= self.goal if self.at_least else self.ratio <= self.goal
        return "met" if met else "MISSED"

    def line(self) -> str:
        """Write the figure for people."""
        text = f"{self.name:<46} {_side(self.ours, self.unit):>34}"
        text += f"  {_side(self.theirs, self.unit) if self.theirs else '-':>34}"
        ratio = f"{self.ratio:.2f}" if self.theirs else "-"
        sign = ">=" if self.at_least else "<="
        goal = f"{sign} {self.goal:g}" if self.goal is not None else ""
        return f"{text}  {ratio:>6}  {goal:<8} {self.verdict:<6}  {self.against}".rstrip()


HEADER = f"{'':<46} {'spanctl: median [quartiles]':>34}  {'other':>34}  {'ratio':>6}  goal"


def _side(sample: Sample, unit: str) -> str:
    low, high = sample.spread
    digits = 0 if sample.median >= 1000 else 2
    return f"{sample.median:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}] {unit}"


def milliseconds(work: Callable[[], object]) -> float:
    """Run once and return how long it took."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def interleaved(
    sides: Sequence[Callable[[], object]], *, rounds: int, warm_up: int
) -> list[Sample]:
    """Time every side once a round, in an order that turns each round, in milliseconds.

    What drifts (other load, a growing database) then weighs on all sides alike.
    """
    taken: list[list[float]] = [[] for _ in sides]
    gc.collect()
    gc.disable()
    try:
        for number in range(warm_up + rounds):
            for offset in range(len(sides)):
                index = (number + offset) % len(sides)
                took = milliseconds(sides[index])
                if number >= warm_up:
                    taken[index].append(took)
    finally:
        gc.enable()
    return [Sample(tuple(one)) for one in taken]
