"""Looks in turn for what died, until there is nothing left to do, or for ever."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spanctl.clock import monotonic
from spanctl.errors import SpanctlError, SupersededError
from spanctl.recovery import candidates
from spanctl.recovery.candidates import Candidate, Wanted
from spanctl.recovery.recoverer import Action, Recovered, Recoverer

if TYPE_CHECKING:
    from spanctl.orchestration.model import State

PAUSE: Final = 5.0
"""Seconds between two looks."""
_AGAIN: Final = 2.0
"""Seconds after which a run is looked at again that its worker may be about to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to look.

    Attributes:
        watch: Whether to go on looking for ever.
        silence: Seconds to look on while executors are silent, of which it isn't known yet.
    """

    watch: bool = False
    silence: float = 0.0


def run(
    recoverer: Recoverer,
    wanted: Wanted,
    patience: Patience,
    *,
    trouble: Callable[[SpanctlError], None],
    silent: Callable[[int], None] = lambda _: None,
) -> Iterator[Recovered]:
    """Recover what died, and yield what became of each run.

    A run whose worker may be about to end it is left until a second look, two seconds later.

    Args:
        recoverer: Who does it, and where.
        wanted: What is to be recovered.
        patience: How long to look.
        trouble: Called, where it goes on looking, with why a look failed.
        silent: Called at the end with how many executors are silent, of which it isn't known yet.

    Raises:
        SupersededError: This recoverer itself counts as dead.
        SpanctlError: A look failed, and it doesn't go on looking.
    """
    seen: set[tuple[str, State | None]] = set()
    began = monotonic()
    while True:
        try:
            found = candidates.look(recoverer.database, recoverer.api, wanted)
            recoverer.tidy(found)
            recoverer.settle(found)
        except SupersededError:
            raise
        except SpanctlError as error:
            if not patience.watch:
                raise
            trouble(error)
            time.sleep(PAUSE)
            continue
        known, seen = seen, {(one.run.id, one.run.state) for one in found.candidates}
        due = [
            one
            for one in found.candidates
            if (one.run.id, one.run.state) in known or not _may_be_ended(one)
        ]
        for one in due:
            yield _recovered(recoverer, one)
        is_young = len(due) < len(found.candidates)
        waits = found.silent and monotonic() - began < patience.silence
        if not (is_young or waits or patience.watch):
            silent(found.silent)
            return
        time.sleep(_AGAIN if is_young else PAUSE)


def _recovered(recoverer: Recoverer, one: Candidate) -> Recovered:
    try:
        return recoverer.recover(one)
    except SupersededError:
        raise
    except SpanctlError as error:
        return Recovered(run=one.run, action=Action.LEFT, note=error.message, hint=error.hint)
    except Exception as error:  # noqa: BLE001 - the other runs shall not suffer from it
        note = f"a bug in spanctl: {type(error).__name__}: {error}"
        return Recovered(run=one.run, action=Action.LEFT, note=note)


def _may_be_ended(one: Candidate) -> bool:
    """Tell whether the worker of a run may be about to end it."""
    return one.death is not None and one.run.deployment_id is not None
