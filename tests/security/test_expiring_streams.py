"""A token that ends while a stream is open: it goes on with another one, or says that it can't."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import grpc
import pytest

from spanctl.clock import now
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.secret import Secret
from spanctl.errors import NotPermittedError
from spanctl.spanner import channel
from spanctl.spanner.client import Database
from spanctl.spanner.rpc import Target
from spanctl_cli import exit_codes
from spanctl_cli.exit_codes import ExitCode
from tests.fixtures.scripted_spanner import ScriptedSpanner, part

ROWS: Final = ["1", "2", "3", "4"]
OVER: Final = grpc.StatusCode.UNAUTHENTICATED
LOST: Final = grpc.StatusCode.UNAVAILABLE
SQL: Final = "SELECT a FROM t"


class Issuer:
    """Gives tokens out, so many in all; each is good until it is revoked."""

    def __init__(self, how_many: int) -> None:
        self.left = how_many
        self.given = 0
        self.good = ""

    def fetch(self, http: Http, rejected: Secret | None) -> AccessToken:
        """Return another one, or the last one again."""
        del http, rejected
        if self.left:
            self.left -= 1
            self.given += 1
            self.good = f"token-{self.given}"
        token = Secret(f"token-{self.given}")
        return AccessToken(token=token, expiry=now() + timedelta(hours=1))


class Server:
    """Yields a row a part, and after each of some rows ends the stream and the token's life."""

    def __init__(self, spanner: ScriptedSpanner, issuer: Issuer, code: grpc.StatusCode) -> None:
        self.issuer = issuer
        self.code = code
        self.ends = {"1", "3"}
        self.barred = False
        self.opened: list[tuple[str, bytes]] = []
        spanner.on["ExecuteStreamingSql"] = self.answer

    def answer(self, request: Any, context: Any) -> Iterator[Any]:
        """Answer from the resume token on."""
        token = dict(context.invocation_metadata())["authorization"].removeprefix("Bearer ")
        self.opened.append((token, request.resume_token))
        if token != self.issuer.good or (self.barred and request.resume_token):
            context.abort(OVER, "expired")
        start = int(request.resume_token or b"0")
        for place, value in enumerate(ROWS[start:], start + 1):
            yield part([value], first=place == start + 1, token=b"%d" % place)
            if value in self.ends:
                self.ends.discard(value)
                self.issuer.good = ""
                context.abort(self.code, "")


Opened = Callable[[int, grpc.StatusCode], tuple[Database, Server]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Return a function that opens a database whose server asks for a token."""
    with ScriptedSpanner() as spanner:

        def open_(tokens: int, code: grpc.StatusCode) -> tuple[Database, Server]:
            issuer = Issuer(tokens)
            live = LiveCredentials(issuer, Http(Endpoints()))

            def bearing(target: Target, _credentials: Any) -> grpc.Channel:
                return grpc.intercept_channel(channel.plain(target.host), channel._Bearer(live))  # noqa: SLF001 - over no TLS

            monkeypatch.setattr(Target, "open_channel", bearing)
            return spanner.database, Server(spanner, issuer, code)

        yield open_


@pytest.mark.parametrize("code", [LOST, OVER])
def test_a_stream_goes_on_with_another_token(opened: Opened, code: grpc.StatusCode) -> None:
    """Each row comes once, however the stream ended; each resumption takes a fresh token."""
    database, server = opened(9, code)
    assert [row[0] for row in database.query(SQL)] == ROWS
    assert server.opened == [
        ("token-1", b""),
        ("token-1", b"1"),
        ("token-2", b"1"),
        ("token-2", b"3"),
        ("token-3", b"3"),
    ]


@pytest.mark.parametrize("code", [LOST, OVER])
def test_a_stream_that_can_t_go_on_says_so(opened: Opened, code: grpc.StatusCode) -> None:
    """Without another token: one line, exit 4, at once; the rows so far are not all there are."""
    database, server = opened(1, code)
    rows = []
    with pytest.raises(NotPermittedError) as refused:
        rows.extend(row[0] for row in database.query(SQL))
    assert rows == ["1"] or not rows
    assert "\n" not in refused.value.message
    assert exit_codes.of(refused.value) is ExitCode.NOT_PERMITTED
    assert server.opened == [("token-1", b""), ("token-1", b"1")]


def test_a_server_that_takes_no_token_any_more_is_believed(opened: Opened) -> None:
    """Once it has refused a fresh one, nothing is sent for a third time."""
    database, server = opened(9, OVER)
    server.barred = True
    with pytest.raises(NotPermittedError, match="does not accept"):
        list(database.query(SQL))
    assert [token for token, _ in server.opened] == ["token-1", "token-1", "token-2"]
