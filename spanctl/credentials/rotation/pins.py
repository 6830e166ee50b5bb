"""Pins: leases by which a running flow keeps a version from being disabled.

A flow that follows an alias needs none: it takes up a new version within the drain. One that was
told a version's number does. Pins lie in the secret's annotations, so that one etag decides between
a pin and the write that begins to disable: whichever comes second sees the first. Writing them
takes ``secretmanager.secrets.update``, which also moves aliases: grant it only to runs that pin.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from spanctl.clock import now
from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.journal import (
    JOURNAL,
    PINS,
    Journal,
    Pin,
    Stage,
    check_size,
    pins_from_text,
    pins_to_text,
)
from spanctl.credentials.rotation.ports import EtagConflictError, SecretStore
from spanctl.errors import ConflictError

_TRIES: Final = 20
_PAUSE: Final = 0.05


def pin(store: SecretStore, name: SecretName, holder: str, version: int, until: datetime) -> None:
    """Keep a version enabled until a time, or renew that; a holder has one pin a secret.

    Raises:
        ConflictError: The version is being disabled, or was, or the secret changes all the time.
        UnreachableError: Secret Manager did not answer; the pin may or may not be there.
    """

    def change(pins: tuple[Pin, ...], journal: Journal) -> tuple[Pin, ...]:
        retiree = journal.retiree(version)
        if retiree is not None and retiree.stage is not Stage.WAITING:
            msg = f"version {version} of {name} is being disabled and can't be pinned any more"
            raise ConflictError(msg, hint="use the version that the alias current names")
        others = tuple(kept for kept in pins if kept.holder != holder)
        return (*others, Pin(holder, version, until))

    _change(store, name, change)


def unpin(store: SecretStore, name: SecretName, holder: str) -> None:
    """Let go of a holder's version; one that holds none is left.

    Raises:
        ConflictError: The secret changes all the time.
        UnreachableError: Secret Manager did not answer.
    """
    _change(store, name, lambda pins, _: tuple(kept for kept in pins if kept.holder != holder))


def _change(
    store: SecretStore,
    name: SecretName,
    change: Callable[[tuple[Pin, ...], Journal], tuple[Pin, ...]],
) -> None:
    for attempt in range(_TRIES):
        state = store.get(name)
        journal = Journal.from_text(state.annotations.get(JOURNAL))
        before = pins_from_text(state.annotations.get(PINS))
        live = tuple(replace(kept) for kept in before if now() < kept.until)
        pins = change(live, journal)
        if pins == before:
            return
        annotations = {**state.annotations, PINS: pins_to_text(pins)}
        check_size(annotations)
        try:
            store.update(name, aliases=state.aliases, annotations=annotations, etag=state.etag)
        except EtagConflictError:
            time.sleep(_PAUSE * attempt)
            continue
        return
    msg = f"{name} is changed by others all the time"
    raise ConflictError(msg, hint="try again")
