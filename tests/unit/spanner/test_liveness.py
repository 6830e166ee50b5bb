"""Alive, gone, presumed dead, not known: by the strongest evidence that there is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spanctl.processes import Mark, Process
from spanctl.spanner import liveness
from spanctl.spanner.executors import Executor
from spanctl.spanner.limbo import OpenLease
from spanctl.spanner.liveness import Judge, Verdict
from spanctl.spanner.observations import Observation

BEAT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
R, G, E = Process.RUNNING, Process.GONE, Process.ELSEWHERE


def executor(**more: Any) -> Executor:
    row: dict[str, Any] = {
        "executor_id": "a",
        "host": "web-2",
        "pid": 7,
        "mark": Mark("a-boot", 1, 2),
        "parent": None,
        "root": "job",
        "root_run": None,
        "flow_run": None,
        "version": "1",
        "deadline": 600.0,
        "interval": 15.0,
        "started_at": BEAT,
        "heartbeat": BEAT,
    }
    return Executor(**{**row, **more})


def judge(silent: float, process: Process = E, **more: Any) -> Judge:
    now = BEAT + timedelta(seconds=silent)
    return Judge(now=now, bound=60, look=lambda *_: process, **more)


def seen(first: float, last: float, beat: datetime = BEAT) -> dict[str, Observation]:
    at = [BEAT + timedelta(seconds=one) for one in (first, last)]
    return {"a": Observation("a", beat, *at)}


@pytest.mark.parametrize("silent", [0, 10_000])
@pytest.mark.parametrize(("process", "verdict"), [(R, Verdict.ALIVE), (G, Verdict.GONE)])
def test_the_process_itself_counts_first(silent, process, verdict) -> None:
    """Where it can be looked at, no heartbeat matters."""
    found = judge(silent, process, seen=seen(0, silent)).of(executor())
    assert (found.verdict, found.is_seen) == (verdict, True)


def test_what_was_superseded_or_has_ended_is_gone() -> None:
    """Also where its process runs: it may write nothing any more."""
    for more in ({"superseded_at": BEAT, "superseded_by": "b"}, {"ended_at": BEAT}):
        assert judge(0, R).of(executor(**more)).verdict is Verdict.GONE


@pytest.mark.parametrize(
    ("silent", "watched", "verdict"),
    [
        (5, {}, Verdict.ALIVE),
        (60, {}, Verdict.ALIVE),
        (61, {}, Verdict.NOT_KNOWN),
        (10_000, {}, Verdict.NOT_KNOWN),
        (10_000, seen(9_000, 9_030), Verdict.NOT_KNOWN),
        (10_000, seen(9_000, 9_060), Verdict.PRESUMED_DEAD),
        (10_000, seen(9_000, 9_060, BEAT - timedelta(seconds=15)), Verdict.NOT_KNOWN),
    ],
)
def test_elsewhere_silence_is_death_only_where_it_was_watched(silent, watched, verdict) -> None:
    """One heartbeat, watched for the whole bound: Spanner itself may have been silent."""
    found = judge(silent, seen=watched).of(executor())
    assert (found.verdict, found.is_seen) == (verdict, False)
    assert "process 7 on web-2" in found.evidence


def test_the_bound_grows_with_what_holds_heartbeats_back() -> None:
    """Three intervals at least; on an emulator the longest transaction as well."""
    slow = executor(interval=100.0)
    assert judge(299).of(slow).verdict is Verdict.ALIVE
    assert judge(301).of(slow).verdict is Verdict.NOT_KNOWN
    assert judge(659, is_emulated=True).of(executor()).verdict is Verdict.ALIVE
    watched = judge(2_000, is_emulated=True, seen=seen(0, 659))
    assert watched.of(executor()).verdict is Verdict.NOT_KNOWN
    watched = judge(2_000, is_emulated=True, seen=seen(0, 660))
    assert watched.of(executor()).verdict is Verdict.PRESUMED_DEAD


def test_a_lease_without_a_row_is_judged_by_its_process_alone() -> None:
    """An older client wrote none."""
    lease = OpenLease(
        intent_id="i", executor="old", keys=(), root_run=None, host="h", pid=1, since=BEAT
    )
    verdicts = [judge(0, one).of_lease(lease).verdict for one in (R, G, E)]
    assert verdicts == [Verdict.ALIVE, Verdict.GONE, Verdict.NOT_KNOWN]


def test_a_number_without_a_mark_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts in a pid namespace that tells no mark, and is another process here."""
    monkeypatch.setattr(liveness, "mark", lambda: Mark("a-boot", 1, 2))
    for process in (R, G):
        found = judge(10_000, process).of(executor(mark=None))
        assert (found.verdict, found.is_seen) == (Verdict.NOT_KNOWN, False)
    monkeypatch.setattr(liveness, "mark", lambda: None)
    assert judge(0, G).of(executor(mark=None)).verdict is Verdict.GONE


def test_silent_are_those_that_only_their_heartbeat_tells_of() -> None:
    rows = {"a": executor(), "b": executor(executor_id="b", ended_at=BEAT)}
    assert [one.executor_id for one in judge(0, E, executors=rows).silent()] == ["a"]
    assert judge(0, G, executors=rows).silent() == []
