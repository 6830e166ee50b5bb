"""What a run ends a command with."""

import json
import uuid
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from prefect import flow
from pydantic import BaseModel, Field

from spanctl.errors import (
    FlowCancelledError,
    FlowFailedError,
    KeyReusedError,
    PendingError,
    SpanctlError,
)
from spanctl.flows.launch import Finished, bind, read
from spanctl.orchestration import parameters


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


class Colour(StrEnum):
    RED = "1"


class Place(BaseModel):
    city: str


@flow(name="typed")
def typed(  # noqa: PLR0913, PLR0917 - one of each type
    text: str,
    maybe: str | None,
    count: int,
    price: Decimal,
    wait: timedelta,
    dry: bool,
    colour: Colour,
    digit: Literal["1", "2"],
    where: Place,
    path: Path,
    tags: list[str],
    short: Annotated[str, Field(min_length=2)],
    quoted: "str",
    untyped,
    default: str = "x",
) -> None:
    pass


@flow(name="open")
def open_ended(**named: str) -> None:
    pass


TYPED = {
    "text": "4711",
    "maybe": "true",
    "count": "007",
    "price": "0.100000000000000000000000000001",
    "wait": "90",
    "dry": "yes",
    "colour": "1",
    "digit": "2",
    "where": '{"city": "x"}',
    "path": "12",
    "tags": '["007"]',
    "short": "12",
    "quoted": "1e3",
    "untyped": "12",
    "default": "null",
}


def test_parameters_are_read_by_the_flows_signature() -> None:
    """Each as its type says, and the same for a deployment of the flow, whose schema is JSON."""
    bound = bind(typed, read(typed, TYPED))
    expected: dict[str, Any] = {
        "text": "4711",
        "maybe": "true",
        "count": 7,
        "price": Decimal("0.100000000000000000000000000001"),
        "wait": timedelta(seconds=90),
        "dry": True,
        "colour": Colour.RED,
        "digit": "2",
        "where": Place(city="x"),
        "path": Path("12"),
        "tags": ["007"],
        "short": "12",
        "quoted": "1e3",
        "untyped": 12,
        "default": "null",
    }
    assert bound == expected
    schema = json.loads(json.dumps(typed.parameters.model_dump_for_openapi()))
    sent = json.loads(json.dumps(parameters.read(TYPED, schema)))
    assert typed.validate_parameters(sent) == expected


def test_parameters_that_a_flow_names_nowhere_have_a_type_as_well() -> None:
    """``**named: str`` gets text."""
    bound = bind(open_ended, read(open_ended, {"account": "4711"}))
    assert bound == {"named": {"account": "4711"}}
