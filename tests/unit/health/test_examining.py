"""Checks side by side: none waits for another that it doesn't need."""

import threading
from collections.abc import Iterator

import pytest

from spanctl.errors import ConflictError, NotFoundError, UnreachableError
from spanctl.health.examining import CheckFailedError, examine
from spanctl.health.model import Answer, Check, Finding, Status, fail, ok, unsupported, warn

LONG = 60.0


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """An event that checks hang on until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def by_part(*checks: Check, deadline: float = LONG) -> dict[str, Finding]:
    return {finding.part: finding for finding in examine(checks, deadline=deadline)}


def test_independent_checks_run_at_once() -> None:
    """Two checks that wait for each other both come to an end."""
    meeting = threading.Barrier(2, timeout=LONG)

    def meet() -> Answer:
        meeting.wait()
        return ok("met")

    found = by_part(Check("a", meet), Check("b", meet))
    assert {finding.answer.status for finding in found.values()} == {Status.OK}


def test_a_check_begins_after_what_it_needs() -> None:
    """What a check needs is done before it looks."""
    seen: list[str] = []

    def look(name: str) -> Answer:
        seen.append(name)
        return ok(name)

    checks = [
        Check("c", lambda: look("c"), ("b",)),
        Check("b", lambda: look("b"), ("a",)),
        Check("a", lambda: look("a")),
    ]
    assert [finding.part for finding in examine(checks)] == ["a", "b", "c"] == seen


def test_one_that_hangs_is_told_and_stops_only_what_needs_it(stuck: threading.Event) -> None:
    """The rest is found out, what hangs is unreachable, and what rests on it names it."""

    def hang() -> Answer:
        stuck.wait()
        return ok("too late")

    found = by_part(
        Check("hangs", hang),
        Check("rests", lambda: ok("never"), ("hangs",)),
        Check("further", lambda: ok("never"), ("rests",)),
        Check("free", lambda: ok("fine")),
        deadline=0.2,
    )
    assert isinstance(found["hangs"].answer.error, UnreachableError)
    assert "0.2 s" in found["hangs"].answer.evidence
    assert found["free"].answer.status is Status.OK
    for part in ("rests", "further"):
        assert found[part].answer.status is Status.SKIPPED
        assert found[part].answer.evidence == "not looked at: see hangs"
        assert found[part].answer.error is None


def test_an_answer_after_the_deadline_is_not_told_twice(stuck: threading.Event) -> None:
    """Each part is told exactly once, also when its late answer arrives while others run."""
    answered = threading.Event()

    def slow() -> Answer:
        stuck.wait(LONG)
        answered.set()
        return ok("late")

    found = []
    for finding in examine([Check("slow", slow), Check("other", slow)], deadline=0.3):
        stuck.set()
        assert answered.wait(LONG)
        found.append(finding.part)
    assert sorted(found) == ["other", "slow"]


@pytest.mark.parametrize("answer", [warn("hm"), unsupported("no"), ok("yes")])
def test_only_failures_block(answer: Answer) -> None:
    """A warning, or what isn't supported, stops nothing that rests on it."""
    found = by_part(Check("a", lambda: answer), Check("b", lambda: ok("seen"), ("a",)))
    assert found["b"].answer.evidence == "seen"


def test_an_error_is_told_with_its_hint_and_class() -> None:
    """What a check raises becomes evidence and a command, without the words before it."""

    def look() -> Answer:
        msg = "no ledger"
        raise ConflictError(msg, hint="run: spanctl init")

    answer = by_part(Check("a", look))["a"].answer
    assert (answer.status, answer.evidence, answer.mend) == (
        Status.FAIL,
        "no ledger",
        "spanctl init",
    )
    assert isinstance(answer.error, ConflictError)


@pytest.mark.parametrize(
    ("hint", "mend"),
    [
        ("run: spanctl init", "spanctl init"),
        ("run: spanctl local up, or: spanctl context create NAME", "spanctl local up"),
        ("check the network, or run: spanctl doctor --timeout 60s", "spanctl doctor --timeout 60s"),
        ("run: spanctl local down (it ends the stack)", "spanctl local down"),
        ("run: mv a b && spanctl local up", "mv a b && spanctl local up"),
        (
            "grant roles/spanner.databaseReader at least",
            "grant roles/spanner.databaseReader at least",
        ),
        ("", ""),
    ],
)
def test_what_mends_is_what_can_be_typed(hint: str, mend: str) -> None:
    """Of a hint that names a command, the command alone; of others all that they say."""
    assert fail(ConflictError("broken", hint=hint)).mend == mend


def test_a_bug_in_a_check_is_told_without_its_text() -> None:
    """An error that nothing foresaw may hold data: only its kind is told, and the rest goes on."""

    def look() -> Answer:
        msg = "secret-word"
        raise ValueError(msg)

    found = by_part(Check("a", look), Check("b", lambda: ok("fine")))
    assert isinstance(found["a"].answer.error, CheckFailedError)
    assert "ValueError" in found["a"].answer.evidence
    assert "secret-word" not in repr(found["a"])
    assert found["b"].answer.status is Status.OK


def test_a_failure_keeps_its_facts() -> None:
    """Machines are told what was found, also of what failed."""
    answer = fail(NotFoundError("gone", hint="look"), pool="p")
    assert (answer.facts, answer.mend) == ({"pool": "p"}, "look")
