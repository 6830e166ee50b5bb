"""What a run ends a command with."""

import uuid

import pytest

from spanctl.errors import (
    FlowCancelledError,
    FlowFailedError,
    KeyReusedError,
    PendingError,
    SpanctlError,
)
from spanctl.flows.launch import Finished


def finished(state_type: str, error: Exception | None = None) -> Finished:
    return Finished(
        flow_run=uuid.uuid4(), name="n", flow="f", state="S", state_type=state_type, error=error
    )


@pytest.mark.parametrize(
    ("state_type", "kind"),
    [
        ("FAILED", FlowFailedError),
        ("CANCELLED", FlowCancelledError),
        ("CRASHED", FlowCancelledError),
        ("PAUSED", PendingError),
        ("SCHEDULED", PendingError),
    ],
)
def test_each_ending_is_told_as_what_it_is(state_type: str, kind: type[SpanctlError]) -> None:
    """A run that is paused has neither failed nor been cancelled: it goes on later."""
    with pytest.raises(kind, match="ended as S"):
        finished(state_type).check()


def test_the_flows_own_error_counts() -> None:
    """An error of ours keeps its kind, so that its exit code counts; another's text is not told."""
    with pytest.raises(KeyReusedError):
        finished("FAILED", KeyReusedError("reused")).check()
    with pytest.raises(FlowFailedError) as caught:
        finished("FAILED", ValueError("4711")).check()
    assert "ValueError" in str(caught.value)
    assert "4711" not in str(caught.value)


def test_a_completed_run_is_no_error() -> None:
    """Nothing is raised, whatever the flow returned."""
    finished("COMPLETED", ValueError("returned, not raised")).check()
