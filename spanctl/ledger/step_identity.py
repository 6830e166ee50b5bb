"""Which function an operation is, so that no other one ever answers for it.

An operation key holds a step's bare name, and its ordinals are counted by that name. Two functions
can share it: of two modules, of one factory, in two branches. So the receipt also holds the step's
identity, and a key that meets another identity is refused, never replayed. The identity is in no
key and in no txn ID: receipts without one match by the name alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from spanctl.ledger.digests import keyed

VERSION: Final = 1
_LOOSE: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepIdentity:
    """A step's function and where in the run it is called.

    Attributes:
        function: ``module:qualified.name``; ``module:name=`` for a name that the caller gave.
        surroundings: Bytes that stand for closure cells and defaults; empty where a given name
            stands for all of it.
        path: Subflows down to the call of a key, each with its ordinal, or :func:`loose` where
            that may be another one on a retry; empty for a call that is counted, whose path is part
            of its operation key.
        fixed: Whether all of the path's ordinals are the same on every attempt.
        lineage: Attempts of the flows and tasks above the call of a key, to the turn or the run
            that was called in each: two calls in one attempt are two writes.
    """

    function: str
    surroundings: bytes = b""
    path: tuple[str, ...] = ()
    fixed: bool = True
    lineage: Mapping[str, str] = field(default_factory=dict, hash=False)

    def sealed(self, key: bytes) -> str:
        """Return the text that a receipt holds; cells can't be guessed without the ledger's key."""
        identity = {
            "v": VERSION,
            "step": self.function,
            "cells": keyed(key, self.surroundings) if self.surroundings else None,
            "in": list(self.path),
            "fixed": self.fixed,
            "lineage": dict(self.lineage),
        }
        return json.dumps(identity, separators=(",", ":"), ensure_ascii=False)


def difference(stored: str | None, mine: str | None) -> str | None:
    """Return who committed an operation, to end "committed before by ..."; None if it is the same.

    Args:
        stored: What the receipt holds; None where nobody said.
        mine: The identity of the call that met it; None where nobody says.
    """
    if stored is None or mine is None:
        return None
    was, now = json.loads(stored), json.loads(mine)
    if was.get("v") != now["v"]:
        return None  # of another version: nothing can be said, as of a receipt without one
    if was["step"] != now["step"]:
        return f"another function, {was['step']} (here it is {now['step']})"
    if was["cells"] != now["cells"]:
        return f"{was['step']} with other values in its closure or defaults"
    return _other_place(was, now)


def _other_place(was: dict[str, Any], now: dict[str, Any]) -> str | None:
    before, here = _turns(was), _turns(now)
    if len(before) != len(here) or any(map(_differ, before, here)):
        return f"a call in {told(before)} (here it is made in {told(here)})"
    if is_other_call(was.get("lineage", {}), now["lineage"]):
        return f"another run of {told(before)}"
    return None


def loose(subflow: str) -> str:
    """Return a subflow whose ordinal may be another one on a retry, as identities hold it."""
    return f"{_bare(subflow)}#{_LOOSE}"


def is_other_call(was: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Tell by their lineages whether two calls of a key are certainly two.

    They are where one attempt called two runs. Of two turns nothing is said: paths tell these, with
    the receipt at hand. Neither of two attempts, one of which may be the retry of the other.
    """
    both = ((was[at], now[at]) for at in was.keys() & now.keys())
    return any(one != other and not (_is_turn(one) and _is_turn(other)) for one, other in both)


def _is_turn(call: str) -> bool:
    return "#" in call


def _turns(identity: dict[str, Any]) -> list[str]:
    """Return a path, with ordinals only where they are sure."""
    path: list[str] = identity["in"]
    marked = any(_is_loose(one) for one in path)
    # Receipts from before say that an ordinal isn't sure, but not which one.
    return path if identity["fixed"] or marked else [loose(one) for one in path]


def _differ(one: str, other: str) -> bool:
    if _is_loose(one) or _is_loose(other):
        return _bare(one) != _bare(other)
    return one != other


def _is_loose(subflow: str) -> bool:
    return subflow.endswith(f"#{_LOOSE}")


def _bare(subflow: str) -> str:
    return subflow.rpartition("#")[0]


def told(path: Sequence[str]) -> str:
    """Return a path as errors show it."""
    shown = [_bare(one) if _is_loose(one) else one for one in path]
    return f"subflow {'/'.join(shown)}" if path else "the root flow"
