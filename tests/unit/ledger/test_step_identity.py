"""Which function committed an operation, and whether it is the one that asks."""

import json
from dataclasses import replace

import pytest

from spanctl.ledger.step_identity import StepIdentity, difference

KEY = bytes(32)
MINE = StepIdentity(
    function="job:pay", surroundings=b"x", path=("part#0",), lineage={"root:1": "part#0"}
)


def sealed(identity: StepIdentity) -> str:
    return identity.sealed(KEY)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (replace(MINE, function="jobs:pay"), "another function, jobs:pay (here it is job:pay)"),
        (replace(MINE, surroundings=b"y"), "job:pay with other values in its closure or defaults"),
        (replace(MINE, surroundings=b""), "job:pay with other values in its closure or defaults"),
        (replace(MINE, path=("part#1",)), "a call in subflow part#1 (here it is made in"),
        (replace(MINE, path=()), "a call in the root flow (here it is made in subflow part#0)"),
        (replace(MINE, path=("other#5",), fixed=False), "a call in subflow other"),
        (replace(MINE, lineage={"root:1": "run"}), "another run of subflow part#0"),
    ],
)
def test_another_one_is_named(other: StepIdentity, told: str) -> None:
    """The person reads which function, or which call, has the key already."""
    assert told in str(difference(sealed(other), sealed(MINE)))


@pytest.mark.parametrize(
    "same",
    [
        MINE,
        replace(MINE, path=("part#7",), fixed=False, lineage={}),  # of before
        replace(MINE, path=("part#*",), fixed=False, lineage={"root:2": "run"}),
    ],
)
def test_the_same_one_goes_on(same: StepIdentity) -> None:
    """Ordinals of subflows count only where they are the same on every attempt."""
    assert difference(sealed(same), sealed(MINE)) is None
    assert difference(sealed(MINE), sealed(same)) is None


DEEP = replace(MINE, path=("middle#0", "part#*"), fixed=False, lineage={})


def test_ordinals_that_are_sure_are_compared() -> None:
    """That one level of the path has no fixed order says nothing about the others."""
    other = replace(DEEP, path=("middle#1", "part#*"))
    told = "a call in subflow middle#0/part (here it is made in subflow middle#1/part)"
    assert difference(sealed(DEEP), sealed(other)) == told
    assert difference(sealed(replace(DEEP, path=("middle#1", "part#7"))), sealed(other)) is None


def test_a_receipt_from_before_has_no_lineage() -> None:
    """It is compared as it always was."""
    now = sealed(replace(DEEP, lineage={"root:1": "run"}))
    before = json.loads(sealed(replace(DEEP, path=("middle#1", "part#3"))))
    del before["lineage"]
    assert difference(json.dumps(before), now) is None
    assert difference(json.dumps(before | {"in": ["middle#1"]}), now) is not None


def test_who_said_nothing_is_not_compared() -> None:
    """Receipts of before, and of library calls, match by the step's bare name."""
    assert difference(None, sealed(MINE)) is None
    assert difference(sealed(MINE), None) is None
    assert difference('{"v":2}', sealed(MINE)) is None


def test_what_a_closure_holds_can_t_be_guessed() -> None:
    """The digest needs the ledger's key."""
    assert MINE.sealed(KEY) != MINE.sealed(bytes([1] * 32))
    secret = replace(MINE, surroundings=b"hunter2")
    assert "hunter2" not in secret.sealed(KEY)
