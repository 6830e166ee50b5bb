"""How a run that ran elsewhere ended, by what its flow runs wrote of their transactions."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from spanctl.audit import ending
from spanctl.errors import (
    FlowCancelledError,
    FlowFailedError,
    KeyReusedError,
    NotPermittedError,
    OutcomeUnknownError,
    SpanctlError,
    UnreachableError,
)
from spanctl.ledger.report import TransactionReport
from spanctl.orchestration.model import (
    TRANSACTIONS_ARTIFACT,
    FlowRun,
    Log,
    State,
    StateType,
    moment,
)

NOON = moment("2026-01-01T12:00:00Z")


def flow_run(name: str, kind: StateType = StateType.FAILED) -> FlowRun:
    assert NOON is not None
    state = State(kind, kind.value.title(), NOON)
    run = FlowRun(id=name, name=name, flow_id="flow", parameters={}, labels={}, state=state)
    return replace(run, start_time=NOON, run_count=1)


def row(txn: str, outcome: str = "COMMITTED", error: str | None = None) -> dict[str, Any]:
    return {"step": "book", "txn_id": txn, "outcome": outcome, "error": error}


class Api:
    """A Prefect with a root run, its subflow runs (newest first) and their artifacts."""

    def __init__(self, *subflows: str, **artifacts: Any) -> None:
        self._subflows = [flow_run(one) for one in subflows]
        self._artifacts = artifacts
        self.late = 0
        self.lines: list[Log] = []

    def artifact(self, flow_run_id: str, key: str) -> Any:
        assert key == TRANSACTIONS_ARTIFACT
        if self.late:
            self.late -= 1
            return None
        return self._artifacts.get(flow_run_id)

    def last_logs(self, flow_run_id: str) -> list[Log]:
        assert flow_run_id == "root"
        return self.lines

    def subflow_runs(self, flow_run_id: str) -> list[FlowRun]:
        return self._subflows if flow_run_id == "root" else []


def line(message: str, second: int) -> Log:
    """A line of the engine, some seconds after the run's end."""
    assert NOON is not None
    return Log(
        id=message,
        timestamp=NOON + timedelta(seconds=second),
        level=20,
        logger="prefect.flow_runs",
        message=message,
        task_run_id=None,
    )


def check(api: Api, kind: StateType = StateType.FAILED) -> SpanctlError:
    with pytest.raises(SpanctlError) as caught:
        ending.check(api, flow_run("root", kind))  # type: ignore[arg-type]
    return caught.value


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_PATIENCE", 0.0)
    monkeypatch.setattr(ending, "_PATIENCE_WITHOUT_ENGINE", 0.0)
    monkeypatch.setattr(ending, "_LEAST", 0.0)


@pytest.mark.parametrize("kind", [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED])
def test_an_open_outcome_goes_before_everything(kind: StateType) -> None:
    """One UNKNOWN is told with its ID, whatever the flow made of it and whatever failed after."""
    rows = [row("t1", "UNKNOWN", "outcome_unknown"), row("t2", "NOT_COMMITTED", "conflict")]
    error = check(Api(root=rows), kind)
    assert isinstance(error, OutcomeUnknownError)
    assert error.details["txn_id"] == "t1"
    assert "txn resolve t1" in error.hint


@pytest.mark.parametrize("found", [UnreachableError, NotPermittedError, KeyReusedError])
def test_a_failed_run_fails_as_its_last_failed_step(found: type[SpanctlError]) -> None:
    """The class of the code counts, of the last step that failed; later commits don't hide it."""
    rows = [row("t1", "NOT_COMMITTED", "usage"), row("t2", "NOT_COMMITTED", found.code), row("t3")]
    error = check(Api(root=rows))
    assert type(error) is found
    assert error.details["flow_run"] == "root"
    assert error.message == f"flow run root ended as Failed: step book failed ({found.code})"


def test_a_refused_call_counts_beside_the_commit_of_its_id() -> None:
    """A txn ID that committed and was refused to a later call ends the run as that refusal."""
    assert type(check(Api(root=[row("t1", "COMMITTED", "key_reused")]))) is KeyReusedError


@pytest.mark.parametrize(
    "rows",
    [
        None,
        [],
        [row("t1")],
        [row("t1", "NOT_COMMITTED", "conflict"), row("t2", "NOT_COMMITTED")],
        [row("t1", "NOT_COMMITTED", "a_code_of_a_later_version")],
    ],
)
def test_a_run_that_fails_for_another_reason(rows: Any) -> None:
    """Without a step that says why (or with a body's own exception last) the flow failed."""
    assert type(check(Api(root=rows))) is FlowFailedError


def test_a_crashed_run_is_no_failed_step() -> None:
    """Cancelled and crashed stay what they are, unless an outcome is open."""
    rows = [row("t1", "NOT_COMMITTED", "conflict")]
    assert type(check(Api(root=rows), StateType.CRASHED)) is FlowCancelledError
    assert type(check(Api(), StateType.CANCELLED)) is FlowCancelledError


def test_a_cancelled_run_says_what_became_of_its_open_transaction() -> None:
    """The one that was interrupted is named, with its outcome."""
    rows = [row("t1"), row("t2", "NOT_COMMITTED")]
    error = check(Api(root=rows), StateType.CANCELLED)
    assert error.message == "flow run root ended as Cancelled: t2 (book) NOT_COMMITTED"
    assert error.details["not_committed"] == ["t2"]


def test_subflows_count_and_the_last_word_on_a_transaction_stands() -> None:
    """What a subflow left open is told; once its retry found it committed, it is not."""
    left = [row("t1", "UNKNOWN", "outcome_unknown")]
    assert type(check(Api("first", first=left))) is OutcomeUnknownError
    api = Api("again", "first", first=left, again=[row("t1")])
    ending.check(api, flow_run("root", StateType.COMPLETED))  # type: ignore[arg-type]


@pytest.fixture
def just_ended(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """It is NOON, and waits cost no time but by this clock, which is returned."""
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(ending, "_PATIENCE", 10.0)
    monkeypatch.setattr(ending, "_PATIENCE_WITHOUT_ENGINE", 3.0)
    monkeypatch.setattr(ending, "monotonic", lambda: clock[0])
    monkeypatch.setattr(ending, "now", lambda: NOON)
    monkeypatch.setattr(ending.time, "sleep", sleep)
    return clock


@pytest.mark.parametrize("kind", [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED])
@pytest.mark.usefixtures("just_ended")
def test_a_late_artifact_is_waited_for(kind: StateType) -> None:
    """Prefect's hooks come after the final state: an artifact that isn't there yet is awaited."""
    api = Api(root=[row("t1", "UNKNOWN")])
    api.late = 3
    assert type(check(api, kind)) is OutcomeUnknownError


@pytest.mark.parametrize(
    ("kind", "lines", "waited"),
    [
        (StateType.FAILED, [], 3),
        (StateType.FAILED, [line("Beginning flow run", -1)], 10),
        (StateType.CRASHED, [], 3),
        (StateType.FAILED, [line("Finished in state Failed()", 1)], 0),
        (StateType.FAILED, [line("Beginning flow run", -1), line("Finished in state", -2)], 10),
    ],
    ids=["silent", "begun", "killed", "its hooks have run", "an earlier attempt's have"],
)
def test_how_long_an_artifact_is_waited_for(
    just_ended: list[float], kind: StateType, lines: list[Log], waited: float
) -> None:
    """Until the engine says that the hooks have run, and not for ever."""
    api = Api()
    api.lines = lines
    check(api, kind)
    assert just_ended == [waited]


@pytest.mark.usefixtures("just_ended")
def test_what_an_earlier_attempt_wrote_does_not_stand_for_the_next() -> None:
    """A run that was retried is judged by the artifact that is there when its hooks have run."""
    api = Api(root=[row("t1", "UNKNOWN")])
    api.lines = [line("Finished in state Failed()", -9)]
    run = replace(flow_run("root"), run_count=2)
    words = iter([[row("t1", "NOT_COMMITTED", "conflict")], [row("t1", "UNKNOWN")]])

    def artifact(flow_run_id: str, key: str) -> Any:
        assert (flow_run_id, key) == ("root", TRANSACTIONS_ARTIFACT)
        api.lines = [line("Finished in state Failed()", 1)]
        return next(words)

    api.artifact = artifact  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknownError):
        ending.check(api, run)  # type: ignore[arg-type]


def test_a_run_that_never_began_says_nothing(just_ended: list[float]) -> None:
    """It was cancelled before: there is nothing to wait for."""
    run = replace(flow_run("root", StateType.CANCELLED), start_time=None, run_count=0)
    with pytest.raises(FlowCancelledError):
        ending.check(Api(), run)  # type: ignore[arg-type]
    assert just_ended == [0.0]


class Silent(Api):
    """A Prefect that has stopped answering."""

    def artifact(self, flow_run_id: str, key: str) -> Any:
        msg = f"Prefect did not answer for {key} of {flow_run_id}"
        raise UnreachableError(msg)


@pytest.mark.parametrize(
    ("outcomes", "is_whole", "expected"),
    [
        (["COMMITTED"], True, None),
        (["COMMITTED"], False, UnreachableError),
        (["COMMITTED", "UNKNOWN"], True, OutcomeUnknownError),
    ],
)
def test_a_whole_ledger_does_without_a_prefect_that_fell_silent(
    outcomes: list[str], is_whole: bool, expected: type[SpanctlError] | None
) -> None:
    """The end of the run was told before; what it did is in the ledger, if all of that was read."""
    run = flow_run("root", StateType.COMPLETED)
    ledger = [TransactionReport.from_row(row(f"t{n}", one)) for n, one in enumerate(outcomes)]
    with pytest.raises(expected) if expected else nullcontext():
        ending.check(Silent(), run, ledger, is_whole=is_whole)  # type: ignore[arg-type]
