"""``--verbose`` and ``--debug``: every request is shown, and nothing of what is in it."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from spanctl import exchanges
from tests.fixtures.cli import Spanctl
from tests.unit.orchestration.test_transport import Server

if TYPE_CHECKING:
    from spanctl.exchanges import Exchange

KEY = "canary-api-key-0123456789"
VALUE = "canary-parameter-4711"
RUN = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Prefect API that knows one deployment and takes what is asked of it."""
    deployment = {"id": "d", "flow_id": "f", "name": "nightly"}
    created = {"id": RUN, "flow_id": "f", "name": "bold-fox", "deployment_id": "d"}
    server = Server()
    server.answers = [(200, json.dumps(deployment).encode()), (201, json.dumps(created).encode())]
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    monkeypatch.setenv("PREFECT_API_KEY", KEY)
    yield server
    server.stop()


def test_verbose_shows_each_request_and_how_it_ended(spanctl: Spanctl, server: Any) -> None:
    """Method, path, host, status and duration, in one line of stderr each."""
    result = spanctl(
        "--verbose", "run", "transfer/nightly", "--detach", "-p", f"who={VALUE}", "-o", "json"
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["flow_run"] == RUN
    host = server.url.removeprefix("http://").removesuffix("/api")
    shown = [line for line in result.stderr.splitlines() if line.startswith("request: ")]
    first, second = (line.rpartition(" in ")[0] for line in shown)
    assert first == f"request: prefect GET /deployments/name/transfer/nightly at {host}: 200"
    assert second == f"request: prefect POST /deployments/d/create_flow_run at {host}: 201"
    assert KEY not in result.output
    assert VALUE not in result.output


def test_debug_shows_also_what_is_on_its_way_and_where_an_error_was_raised(
    spanctl: Spanctl, server: Any
) -> None:
    """Frames of ours, without lines of code or values; still no secret and no value."""
    server.answers = [(404, b"{}")]
    result = spanctl("--debug", "run", "transfer/nope", "--detach", "-p", f"who={VALUE}")
    assert result.exit_code == 5
    assert result.stdout == ""
    assert result.stderr.startswith("debug: spanctl ")
    assert ": sent\n" in result.stderr
    assert "spanctl/orchestration/" in result.stderr
    assert KEY not in result.stderr
    assert VALUE not in result.stderr


def test_without_them_nothing_is_shown(spanctl: Spanctl, server: Any) -> None:
    """Nor after a command that had them: they are over with it."""
    spanctl("--verbose", "run", "transfer/nightly", "--detach")
    assert not exchanges.listened()
    server.answers = [(404, b"{}")]
    assert "request: " not in spanctl("run", "transfer/nope", "--detach").stderr


def test_a_listener_is_told_twice_and_never_of_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is sent and as it ends, by an error's kind where it ends with one."""
    monkeypatch.setattr(exchanges, "_listeners", [])
    told: list[Exchange] = []
    stop = exchanges.listen(told.append)
    with pytest.raises(ValueError, match="boom"), exchanges.sending("x", "GET /a?secret=1", "h"):
        raise ValueError("boom")  # noqa: EM101
    stop()
    with exchanges.sending("x", "GET /b", "h"):
        pass
    assert [(one.method, one.status) for one in told] == [("GET /a", ""), ("GET /a", "ValueError")]
    assert told[0].seconds is None
    assert told[1].seconds is not None


def test_a_password_in_the_address_is_shown_nowhere(
    spanctl: Spanctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the line of a request nor in the error's message."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://ada:{KEY}@127.0.0.1:9/api")
    result = spanctl("--debug", "deployments", "list")
    assert result.exit_code == 3
    assert "127.0.0.1:9" in result.stderr
    assert KEY not in result.stderr
