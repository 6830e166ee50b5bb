"""Looks in turn for what died, until there is nothing left to do, or for ever."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from spanctl.clock import monotonic
from spanctl.errors import SpanctlError, SupersededError
from spanctl.recovery import candidates
from spanctl.recovery.candidates import Candidate
from spanctl.recovery.recoverer import Action, Recovered, Recoverer

PAUSE: Final = 5.0
"""Seconds between two looks."""
_AGAIN: Final = 2.0
"""Seconds after which a run is looked at again that its worker may be about to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be recovered, and for how long to look.

    Attributes:
        only: The root flow runs; all when empty.
        rerun: Whether all of it is to be run again, or only what asks for it.
        watch: Whether to go on looking for ever.
        patience: Seconds to look on while executors are silent, of which it isn't known yet.
    """

    only: Collection[str] = ()
    rerun: bool = False
    watch: bool = False
    patience: float = 0.0


def run(
    recoverer: Recoverer,
    wanted: Wanted,
    *,
    trouble: Callable[[SpanctlError], None],
    silent: Callable[[int], None] = lambda _: None,
) -> Iterator[Recovered]:
    """Recover what died, and yield what became of each run.

    A run whose worker may be about to end it is left until a second look, two seconds later.

    Args:
        recoverer: Who does it, and where.
        wanted: What is to be recovered.
        trouble: Called, where it goes on looking, with why a look failed.
        silent: Called at the end with how many executors are silent, of which it isn't known yet.

    Raises:
        SupersededError: This recoverer itself counts as dead.
        SpanctlError: A look failed, and it doesn't go on looking.
    """
    seen: set[str] = set()
    began = monotonic()
    while True:
        try:
            found = candidates.look(
                recoverer.database, recoverer.api, rerun=wanted.rerun, only=wanted.only
            )
            recoverer.tidy(found)
            recoverer.settle(found)
        except SupersededError:
            raise
        except SpanctlError as error:
            if not wanted.watch:
                raise
            trouble(error)
            time.sleep(PAUSE)
            continue
        due = [one for one in found.candidates if one.run.id in seen or not _may_be_ended(one)]
        for one in due:
            yield _recovered(recoverer, one)
        seen = {one.run.id for one in found.candidates}
        is_young = len(due) < len(found.candidates)
        waits = found.silent and monotonic() - began < wanted.patience
        if not (is_young or waits or wanted.watch):
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


def _may_be_ended(one: Candidate) -> bool:
    """Tell whether the worker of a run may be about to end it."""
    return one.death is not None and one.run.deployment_id is not None
