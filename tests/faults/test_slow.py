"""Streams that break, and statements that take their time: a scripted Spanner has both."""

import threading
import time

import grpc
import pytest

from spanctl.errors import StatementError, TimeOverError, UnreachableError
from spanctl.spanner import retrying
from tests.fixtures.scripted_spanner import ScriptedSpanner, part, retry_info, rows, status

BROKEN = (
    "Received RST_STREAM with error code 2",
    "Received unexpected EOS on DATA frame from server",
)


@pytest.fixture
def spanner():
    with ScriptedSpanner() as made:
        yield made


def rows_of(spanner: ScriptedSpanner, **options) -> list[str]:
    return [row[0] for row in spanner.database.query("SELECT a FROM big", **options)]


def ten(spanner: ScriptedSpanner, *, breaks: dict[int, object], every: int = 1) -> None:
    """Serve ten rows, a resume token with every nth; break once before each row named."""
    left = dict(breaks)

    def answer(request, context):
        def parts():
            for number in range(int(request.resume_token or b"0"), 10):
                if number in left:
                    context.abort_with_status(left.pop(number))
                token = str(number + 1).encode() if (number + 1) % every == 0 else b""
                yield part(
                    [f"row{number}"], first=number == int(request.resume_token or b"0"), token=token
                )

        return parts()

    spanner.on["ExecuteStreamingSql"] = answer


@pytest.mark.parametrize("every", [1, 3, 20], ids=["each", "third", "none"])
@pytest.mark.parametrize("at", [(0,), (4,), (4, 7), (9,)])
@pytest.mark.parametrize("error", ["unavailable", *BROKEN, "exhausted"])
def test_a_stream_that_breaks_is_gone_on_with(spanner, at, every, error) -> None:
    """Every row comes once, wherever it breaks and however few resume tokens there are."""
    how = {
        "unavailable": status(grpc.StatusCode.UNAVAILABLE, "GOAWAY"),
        "exhausted": status(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", retry_info(0.01)),
    }
    broken = how.get(error) or status(grpc.StatusCode.INTERNAL, error)
    ten(spanner, breaks=dict.fromkeys(at, broken), every=every)
    assert rows_of(spanner) == [f"row{number}" for number in range(10)]


@pytest.mark.parametrize(
    "code", ["INTERNAL", "UNKNOWN", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "CANCELLED"]
)
def test_what_may_not_be_sent_again_is_told(spanner, code) -> None:
    """An INTERNAL of another text, RESOURCE_EXHAUSTED without a delay: once is enough."""
    ten(spanner, breaks=dict.fromkeys(range(10), status(grpc.StatusCode[code], "no")))
    with pytest.raises(StatementError) as caught:
        rows_of(spanner)
    assert caught.value.details["status"] == code
    assert len(spanner.sent("ExecuteStreamingSql")) == 1


def test_too_much_without_a_token_is_not_told_twice(spanner, monkeypatch) -> None:
    """What was handed out, and can't be gone on with, ends with an error: no row comes twice."""
    monkeypatch.setattr(retrying, "_MAX_HELD", 30)
    ten(spanner, breaks={8: status(grpc.StatusCode.UNAVAILABLE, "GOAWAY")}, every=20)
    got: list[str] = []
    with pytest.raises(UnreachableError):
        got.extend(row[0] for row in spanner.database.query("SELECT a FROM big"))
    assert got == [f"row{number}" for number in range(len(got))]
    assert len(spanner.sent("ExecuteStreamingSql")) == 1


def test_the_delay_that_the_server_asks_for_is_kept(spanner) -> None:
    """Not less."""
    busy = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", retry_info(0.4))
    ten(spanner, breaks={0: busy})
    rows_of(spanner)
    first, second = (moment for moment, _ in spanner.sent("ExecuteStreamingSql"))
    assert second - first >= 0.4


def test_the_end_of_our_own_time_is_told_as_such(spanner) -> None:
    """Whether the server was still at it can't be known; whose time is over can."""
    release = threading.Event()
    spanner.on["ExecuteStreamingSql"] = lambda *_: release.wait(20) and rows([])
    with pytest.raises(TimeOverError, match=r"0\.5 s, all the time it was given") as caught:
        rows_of(spanner, timeout=0.5)
    release.set()
    assert "did not answer" not in str(caught.value)


def test_a_statement_may_take_what_is_left_of_its_transaction(spanner) -> None:
    """Its timeout on the wire is the operation's, not one of its own; it is sent once."""
    from spanctl.spanner.run import Run, TransactionOptions

    spanner.on["ExecuteSql"] = lambda *_: None
    with Run(spanner.database, "job") as run:
        run.step(
            "s", spanner.update, options=TransactionOptions(deadline=1_000), expect_replay=False
        )
    (left,) = spanner.time_left("ExecuteSql")
    assert 900 < left < 1_020  # gRPC counts in steps of its own


def test_a_query_may_take_an_hour_by_default(spanner) -> None:
    """As with Google's own clients; look-ups of the ledger's own rows stay short."""
    ten(spanner, breaks={})
    began = time.monotonic()
    rows_of(spanner)
    _ = spanner.database.ledger
    assert all(
        left > 3_500 - (time.monotonic() - began)
        for left in spanner.time_left("ExecuteStreamingSql")
    )
    assert all(left < 31 for left in spanner.time_left("StreamingRead"))
