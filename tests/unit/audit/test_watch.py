"""Following a run that nobody starts: by a clock that the test moves."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from spanctl import clock
from spanctl.audit import watch
from spanctl.errors import PendingError, UnreachableError
from spanctl.orchestration.model import FlowRun, Log, State, StateType

START = clock.now()


@dataclass
class Stage:
    """A Prefect that answers with the states of a play, one each simulated second."""

    states: list[StateType]
    expected: float = 0.0
    work_pool: str | None = "night"
    name: str = ""
    lines: list[tuple[float, Log]] = field(default_factory=list)
    seconds: float = 0.0
    logged: list[str] = field(default_factory=list)
    noted: list[tuple[float, str]] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> Any:
        return START + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        self.seconds += 1.0 if seconds < 1.0 else 0.0

    def flow_run(self, flow_run_id: str) -> FlowRun:
        kind = self.states[min(int(self.seconds), len(self.states) - 1)]
        state = State(kind, self.name or kind.value.title(), START)
        run = FlowRun(id=flow_run_id, name="n", flow_id="f", parameters={}, labels={}, state=state)
        due = START + timedelta(seconds=self.expected)
        return replace(run, created=START, expected_start=due, work_pool=self.work_pool)

    def logs(self, flow_run_id: str, *, offset: int = 0) -> Iterator[Any]:
        assert flow_run_id == "run"
        come = [line for when, line in self.lines if when <= self.seconds]
        return iter(come[offset:])

    def follow(self, timeout: float | None = None, database: object = None) -> FlowRun:
        def ignore(_: object) -> None:
            pass

        def note(text: str) -> None:
            self.noted.append((self.seconds, text))

        def log(line: Log) -> None:
            self.logged.append(line.message)

        follower = watch.Follower(state=ignore, log=log, receipt=ignore, note=note)
        return watch.follow(self, database, "run", follower, timeout=timeout)  # type: ignore[arg-type]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets the stage and makes its clock the watcher's."""

    def make(*states: tuple[StateType, int], **facts: Any) -> Stage:
        made = Stage([kind for kind, times in states for _ in range(times)], **facts)
        monkeypatch.setattr(watch, "monotonic", made.monotonic)
        monkeypatch.setattr(watch, "now", made.now)
        monkeypatch.setattr(watch.time, "sleep", made.sleep)
        monkeypatch.setattr(watch.receipts, "listing", lambda *_, **__: [])
        return made

    return make


WAITS, TAKEN = StateType.SCHEDULED, StateType.PENDING
RUNS, DONE = StateType.RUNNING, StateType.COMPLETED


def test_a_run_that_no_worker_takes_is_told_once(stage: Any) -> None:
    """After ten seconds the work pool is named, and what to look at; and never again."""
    play = stage((WAITS, 60))
    with pytest.raises(PendingError):
        play.follow(timeout=50)
    ((when, text),) = play.noted
    assert when == 10
    assert text == "no worker has taken it yet: work pool night; see: spanctl local status"


def test_when_the_time_is_over_it_is_said_what_is_waited_for(stage: Any) -> None:
    """Nobody took it, however short the wait: the error says so, and where to look."""
    with pytest.raises(PendingError) as caught:
        stage((WAITS, 9)).follow(timeout=3)
    assert caught.value.message == "flow run run is still Scheduled: no worker has taken it"
    assert caught.value.hint == (
        "see: spanctl local status; it goes on; look again with: spanctl runs watch run"
    )
    for play in (stage((RUNS, 9)), stage((WAITS, 9), expected=60)):
        with pytest.raises(PendingError) as caught:
            play.follow(timeout=3)
        assert "worker" not in caught.value.message
        assert caught.value.hint.startswith("it goes on;")


def test_a_run_that_is_not_started(stage: Any) -> None:
    """Pending, a worker has it: that is said."""
    play = stage((TAKEN, 15), (RUNS, 1), (DONE, 1))
    play.follow()
    ((_, text),) = play.noted
    assert text.startswith("a worker took it, and hasn't started it yet: work pool night;")


def test_a_run_in_no_work_pool(stage: Any) -> None:
    """A deployment without a work pool is run by nobody unless it is served: so it says."""
    play = stage((WAITS, 15), (DONE, 1), work_pool=None)
    play.follow()
    assert "it is in no work pool" in play.noted[0][1]


@pytest.mark.parametrize(
    ("states", "facts"),
    [
        ([(WAITS, 9), (RUNS, 30), (DONE, 1)], {}),
        ([(WAITS, 30), (RUNS, 5), (DONE, 1)], {"expected": 25}),
        ([(WAITS, 6), (RUNS, 6), (WAITS, 6), (DONE, 1)], {}),
        ([(WAITS, 30), (DONE, 1)], {"name": "AwaitingRetry"}),
    ],
)
def test_a_run_that_waits_for_good_reason(stage: Any, states: Any, facts: dict[str, Any]) -> None:
    """Started in time, scheduled for later, or between two attempts: nothing is said."""
    play = stage(*states, **facts)
    assert play.follow().state.type is DONE
    assert play.noted == []


def line(number: int, message: str, *, second: float, logger: str = "prefect.flow_runs") -> Log:
    """A line that was logged at a simulated second."""
    logged = START + timedelta(seconds=second)
    return Log(
        id=str(number),
        timestamp=logged,
        level=20,
        logger=logger,
        message=message,
        task_run_id=None,
    )


BEGUN = line(1, "Beginning flow run 'n' for flow 'f'", second=0)
WORK = line(2, "after", second=1, logger="mine")
ENDED = line(3, "Finished in state Completed()", second=2)


def test_lines_that_come_late(stage: Any) -> None:
    """The engine's last line is owed by a run that it began and ended: it is waited for."""
    play = stage((RUNS, 2), (DONE, 1), lines=[(0, BEGUN), (9, WORK), (9, ENDED)])
    play.follow()
    assert play.logged == [one.message for one in (BEGUN, WORK, ENDED)]
    assert play.seconds == 9


@pytest.mark.parametrize(
    ("states", "lines", "over"),
    [
        ([(RUNS, 2), (StateType.CRASHED, 1)], [(0, BEGUN)], 4),
        ([(RUNS, 2), (DONE, 1)], [], 4),
        ([(RUNS, 2), (DONE, 1)], [(0, BEGUN)], 30),
        ([(RUNS, 2), (DONE, 1)], [(0, BEGUN), (1, ENDED)], 2),
        ([(RUNS, 2), (DONE, 1)], [(0, BEGUN), (3, ENDED), (3, WORK)], 3),
    ],
    ids=["killed", "logs nothing", "never comes", "came early", "others come after it"],
)
def test_how_long_late_lines_are_waited_for(
    stage: Any, states: Any, lines: list[tuple[float, Log]], over: float
) -> None:
    """Not for what a killed run never says, nor for ever."""
    play = stage(*states, lines=lines)
    play.follow()
    assert play.seconds == over


def test_an_earlier_attempts_last_line_ends_nothing(stage: Any) -> None:
    """The lines of the attempt that ended it are still to come."""
    earlier = line(0, "Finished in state Failed()", second=-5)
    late = [(0.0, earlier), (0.0, BEGUN), (6.0, ENDED)]
    play = stage((RUNS, 2), (DONE, 1), lines=late)
    play.follow()
    assert play.logged[-1] == ENDED.message


def test_a_silent_database_ends_no_watching(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is Prefect's to tell of: that its transactions can't be told is noted, once."""
    asked: list[float] = []

    def listing(*_: object, **__: object) -> Any:
        asked.append(play.seconds)
        msg = "Spanner did not answer"
        raise UnreachableError(msg)

    play = stage((RUNS, 90), (DONE, 1))

    def executors(*_: object, **__: object) -> Any:
        msg = "Spanner did not answer"
        raise UnreachableError(msg)

    monkeypatch.setattr(watch.receipts, "listing", listing)
    monkeypatch.setattr(watch.deaths.executors, "read", executors)
    monkeypatch.setattr(Stage, "flow_run", started(Stage.flow_run))
    ended = play.follow(database=object())
    assert ended.state is not None
    assert ended.state.type is DONE
    ((_, text),) = play.noted
    assert text == "its transactions are not told for now: Spanner did not answer"
    assert len(asked) > 2
    assert all(later - one >= 5 for one, later in pairwise(asked))


def started(flow_run: Any) -> Any:
    """Have runs tell that they have begun, so that there may be transactions."""
    return lambda self, name: replace(flow_run(self, name), start_time=START, run_count=1)
