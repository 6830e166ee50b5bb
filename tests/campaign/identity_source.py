"""The parts of a generated program: functions of equal names, and calls of them.

A call's *site* is its place in the program, its *label* the write that is meant: both are texts in
the source, and no argument that a step's identity knows of. What a site may come to is decided
with it, from the rules alone: a call succeeds, unless another write may have taken its key, or its
place or its arguments are ones that have to be refused.
"""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tests.campaign import identity_arguments


class May(StrEnum):
    """What a call may come to."""

    SUCCEED = "succeed"
    """It has to be told COMMITTED, and to be there."""
    CONFLICT = "conflict"
    """The same, unless another write is there under its key: then it has to be refused."""
    LOST = "lost"
    """Its place has no order or no root: it has to be refused."""
    CHANGED = "changed"
    """Its body has consumed its argument and is to be run again: it has to be refused."""
    UNNAMED = "unnamed"
    """Its function can't be compared with another: it has to be refused."""


CODES: Final[Mapping[May, frozenset[str]]] = {
    May.SUCCEED: frozenset(),
    May.CONFLICT: frozenset({"key_reused"}),
    May.LOST: frozenset({"context_lost", "key_required"}),
    May.CHANGED: frozenset({"argument_changed"}),
    May.UNNAMED: frozenset({"usage"}),
}
"""The errors by which each is refused."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program.

    Attributes:
        files: Name to source; the flow is ``main`` in ``program.py``.
        may: Site to what its calls may come to.
        outside: Whether its calls are outside of flows: it is a script, and run twice.
    """

    files: Mapping[str, str]
    may: Mapping[str, May]
    outside: bool = False


IGNORED: Final = 'ignore_arguments=["label"]'
TAKES: Final = "txn, given, serial, label"
PAUSE: Final = "    "


@dataclass(slots=True)
class Twins:
    """Two functions of one bare name: expressions that are the step, where it is called."""

    name: str
    one: str
    other: str

    def shuffled(self, dice: random.Random) -> tuple[str, str]:
        return (self.one, self.other) if dice.random() < 1 / 2 else (self.other, self.one)


@dataclass(slots=True)
class Scope:
    """A flow's body.

    Attributes:
        at: Expression of the prefix of its sites and labels.
        prefixes: What that expression comes to, in order.
        unsteady: Bare names whose ordinals depend on the branch that was taken.
    """

    at: str
    prefixes: tuple[str, ...] = ("",)
    unsteady: set[str] = field(default_factory=set)


class Source:
    """A program while it is written."""

    def __init__(self, dice: random.Random, number: str, *, maps: bool = False) -> None:
        """Start with functions to choose from.

        Args:
            dice: Its source of chance.
            number: What no other program is called.
            maps: Whether steps are mapped, too.
        """
        self.dice = dice
        self.number = number
        self.ids = itertools.count(1)
        self.may: dict[str, May] = {}
        self.head: list[str] = []
        self.helpers: dict[str, list[str]] = {}
        self.plan: dict[str, str] = {}
        self.hooks: list[str] = []
        self.keys: set[tuple[str, str]] = set()
        self.is_async = False
        self.twins = [self.pair(name) for name in ("create", "record", "post")]
        names = ("tick", "tock", "pour", "audit", *(("each",) if maps else ()))
        self.steady = {name: self.function(name, "file") for name in names}

    def pair(self, name: str) -> Twins:
        dice = self.dice
        kinds = ["file", "class", "class", "factory", "module", "module", "default", "pinned"]
        if dice.random() < 0.3:
            one, other = self.factory(name, default=dice.random() < 0.3)
            return Twins(name, one, other)
        one, other = dice.sample(kinds, 2)
        return Twins(name, self.function(name, one), self.function(name, other))

    def factory(self, name: str, *, default: bool) -> tuple[str, str]:
        number = next(self.ids)
        extra, tag = (", *, tag=tag", "tag") if default else ("", "tag")
        self.head += [
            f"def make_{number}(tag):",
            *indent(step_of(name, f"{tag}", extra=extra)),
            f"{PAUSE}return {name}",
            "",
        ]
        given = [f'make_{number}("{what}")' for what in ("one", "other")]
        if self.dice.random() < 0.5:
            return given[0], given[1]
        self.head += [f"made_{number} = {given[0]}", f"also_{number} = {given[1]}", ""]
        return f"made_{number}", f"also_{number}"

    def function(self, name: str, kind: str) -> str:
        number = next(self.ids)
        known = f"f{number}"
        match kind:
            case "class":
                self.head += [f"class C{number}:", *indent(step_of(name, repr(known))), ""]
                return f"C{number}.{name}"
            case "factory" | "default":
                return self.factory(name, default=kind == "default")[0]
            case "module":
                helper = f"helper_{number}"
                self.helpers[helper] = step_of(name, repr(known))
                return f"{helper}.{name}"
            case "pinned":
                self.head += [*step_of(f"named_{number}", repr(known), pinned=name), ""]
                return f"named_{number}"
        drains = "[given.pop() for _ in list(given)][::-1]" if name == "pour" else "given"
        self.head += [*step_of(name, repr(known), given=drains), f"{known} = {name}", ""]
        return known

    def call(  # noqa: PLR0913 - one call, told in full
        self,
        scope: Scope,
        step: str,
        given: str,
        serial: int,
        *,
        key: str | None = None,
        may: May = May.SUCCEED,
        catch: bool = False,
        how: str = "{step}({args})",
        around: str = "{call}",
        label: str | None = None,
    ) -> list[str]:
        """Return the lines of one call; the first makes its argument."""
        site = f"s{next(self.ids)}"
        label = label or f"w{site[1:]}"
        for prefix in scope.prefixes:
            self.may[f"{prefix}{site}"] = may
        keyed = f', key="{key}"' if key is not None else ""
        args = f"g{site}, {serial}, label={scope.at} + {label!r}{keyed}"
        made = around.format(call="lambda: " + how.format(step=step, args=args))
        made = made if made.startswith("lambda") or not made else f"lambda: {made}"
        caught = ", catch=True" if catch else ""
        return [
            f"g{site} = {given}",
            f"rt.call({scope.at} + {site!r}, {scope.at} + {label!r}, {made}, g{site}{caught})",
        ]

    def given(self) -> str:
        return self.dice.choice(identity_arguments.PAIRS)[0]


def step_of(
    name: str, known: str, *, pinned: str = "", extra: str = "", given: str = "given"
) -> list[str]:
    options = f'name="{pinned}", {IGNORED}' if pinned else IGNORED
    return [
        f"@transaction({options})",
        f"def {name}({TAKES}{extra}):",
        f"{PAUSE}rt.write(txn, label, {given}, {known})",
    ]


def indent(lines: Sequence[str]) -> Iterator[str]:
    return (f"{PAUSE}{line}" if line else line for line in lines)
