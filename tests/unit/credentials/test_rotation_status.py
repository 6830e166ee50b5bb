"""A secret's status tells what a person must know, and never the material."""

from dataclasses import replace
from datetime import timedelta

import pytest

from spanctl.clock import now
from spanctl.credentials.document import DocumentKind
from spanctl.credentials.rotation.pins import pin
from spanctl.credentials.rotation.ports import SecretState, VersionState
from spanctl.credentials.rotation.status import SecretStatus, read_status
from tests.unit.credentials.fakes import NAME, RUNNER, FakeKeyMinter, Killed, Stage


def fresh(kind: type[FakeKeyMinter] | None = None) -> Stage:
    """Return a stage whose version 1 lives now."""
    made = Stage(kind) if kind else Stage()
    made.clock.time = now()
    made.store.payloads.clear()
    made.store.states.clear()
    made.store.seed(made.minter.make())
    return made


def status(stage: Stage) -> SecretStatus:
    return read_status(stage.store, NAME)


def test_a_healthy_secret_has_no_problem() -> None:
    """Kind, principal, expiry and versions are told; nothing is due."""
    stage = fresh()
    stage.rotator().rotate()
    pin(stage.store, NAME, "run-1", 2, now() + timedelta(hours=1))
    told = status(stage)
    assert (told.current, told.previous, told.pending) == (2, 1, None)
    assert (told.kind, told.principal, told.problem) == (DocumentKind.ACCESS_TOKEN, RUNNER, "")
    assert [version.number for version in told.versions] == [2, 1]
    assert [held.holder for held in told.pins] == ["run-1"]
    assert [done.outcome for done in told.history] == ["promoted"]
    assert told.rotation is None
    assert not told.is_due(timedelta(minutes=30))
    assert told.is_due(timedelta(minutes=61))
    assert "ya29" not in repr(told)


def test_a_key_is_never_due_by_itself() -> None:
    """What doesn't expire is rotated when somebody wants it."""
    told = status(fresh(FakeKeyMinter))
    assert told.expiry is None
    assert not told.is_due(timedelta(days=365))


def test_a_rotation_that_was_left_behind_is_due() -> None:
    """While its claim holds somebody may be at it; after that it has to be ended."""
    stage = fresh()
    stage.trouble.at, stage.trouble.kind = 6, "after"
    with pytest.raises(Killed):
        stage.rotator("ada").rotate()
    stage.trouble.dead = False
    told = status(stage)
    assert told.rotation is not None
    assert told.rotation.who == "ada"
    assert not told.abandoned
    assert not told.is_due(timedelta(0))
    gone = replace(told, abandoned=True)
    assert gone.is_due(timedelta(0))


@pytest.mark.parametrize("trouble", ["disabled", "damaged", "missing", "no json"])
def test_what_can_not_be_used_says_why(trouble: str) -> None:
    """Each reason is told, and makes a rotation due."""
    stage = fresh()
    stage.trouble.watch = lambda: None  # here the current version is broken on purpose
    if trouble == "disabled":
        stage.store.states[0] = VersionState.DISABLED
    elif trouble == "damaged":
        stage.store.corrupt = 1
    elif trouble == "missing":
        stage.store.state = SecretState(etag="e")
    else:
        stage.store.payloads[0] = b"{"
    told = status(stage)
    assert told.problem
    assert told.is_due(timedelta(0))
    assert told.kind is None
