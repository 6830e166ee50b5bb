"""Which function an operation is, so that no other one ever answers for it.

An operation key holds a step's bare name, and its ordinals are counted by that name. Two functions
can share it: of two modules, of one factory, in two branches. So the receipt also holds the step's
identity, and a key that meets another identity is refused, never replayed. The identity is in no
key and in no txn ID: receipts without one match by the name alone.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from spanctl.ledger.digests import keyed

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepIdentity:
    """A step's function and where in the run it is called.

    Attributes:
        function: ``module:qualified.name``; ``module:name=`` for a name that the caller gave.
        surroundings: Bytes that stand for closure cells and defaults; empty where a given name
            stands for all of it.
        path: Subflows down to the call of a key; empty for a call that is counted, whose path is
            part of its operation key.
        fixed: Whether the path's ordinals are the same on every attempt.
    """

    function: str
    surroundings: bytes = b""
    path: tuple[str, ...] = ()
    fixed: bool = True

    def sealed(self, key: bytes) -> str:
        """Return the text that a receipt holds; cells can't be guessed without the ledger's key."""
        told = {
            "v": VERSION,
            "step": self.function,
            "cells": keyed(key, self.surroundings) if self.surroundings else None,
            "in": list(self.path),
            "fixed": self.fixed,
        }
        return json.dumps(told, separators=(",", ":"), ensure_ascii=False)


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
    before, here = _places(was, now)
    if before != here:
        return f"a call in {_told(before)} (here it is made in {_told(here)})"
    return None


def _places(was: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the two paths, with ordinals only where both are sure of them."""
    if was["fixed"] and now["fixed"]:
        return was["in"], now["in"]
    return [_bare(one) for one in was["in"]], [_bare(one) for one in now["in"]]


def _bare(subflow: str) -> str:
    return subflow.rpartition("#")[0]


def _told(path: list[str]) -> str:
    return f"subflow {'/'.join(path)}" if path else "the root flow"
