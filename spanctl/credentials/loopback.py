"""A token endpoint on this machine (RFC 8693), for whoever can read one file."""

import contextlib
import hmac
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, Self
from urllib.parse import parse_qs

from spanctl.clock import now
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.lent import LOOPBACK
from spanctl.credentials.secret import Secret
from spanctl.doors import Door
from spanctl.errors import SpanctlError, UnreachableError

_PATH: Final = "/token"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ISSUED: Final = "urn:ietf:params:oauth:token-type:access_token"
_MOST_BYTES: Final = 65_536
_TIMEOUT: Final = 10.0


class TokenEndpoint:
    """Exchanges a subject token for live access tokens, on loopback, while the block runs.

    The port can be reached by everybody on the machine, so that the subject token decides.
    """

    def __init__(self, subject: Secret, fetch: Callable[[], AccessToken]) -> None:
        """Take a free port; nothing is answered yet.

        Args:
            subject: What the caller must show.
            fetch: Returns a live token; may raise SpanctlError.

        Raises:
            OSError: There is no free port.
        """
        self._server = _Server((LOOPBACK, 0), _Handler)
        self._server.subject = subject
        self._server.fetch = fetch
        self._port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="spanctl-token-endpoint", daemon=True
        )

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{LOOPBACK}:{self._port}{_PATH}"

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and give the port back."""
        ending = threading.Thread(target=self._server.shutdown, daemon=True)
        ending.start()
        # Else the server looks up only twice a second.
        with contextlib.suppress(OSError):
            socket.create_connection((LOOPBACK, self._port), _TIMEOUT).close()
        ending.join()
        self._server.server_close()


class _Server(Door):
    patience = _TIMEOUT
    subject: Secret
    fetch: Callable[[], AccessToken]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base's
        """Say nothing of a client that went away: the terminal is the child's."""
        del request, client_address


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    disable_nagle_algorithm = True  # a body would wait 40 ms for the headers' delayed ACK
    protocol_version = "HTTP/1.0"

    def do_POST(self) -> None:
        """Answer one exchange."""
        given = self._form()
        self.server.asked(self.connection)
        if given is None:
            self._answer(400, {"error": "invalid_request"})
        elif not hmac.compare_digest(
            given.get("subject_token", "").encode(), self.server.subject.reveal()
        ):
            self._answer(401, {"error": "invalid_grant"})
        else:
            self._answer(*self._exchanged())

    def _form(self) -> dict[str, str] | None:
        """Return what was sent; None for what is no exchange, or comes from a web page."""
        host = f"{LOOPBACK}:{self.server.server_address[1]}"
        if self.headers.get("Host") != host or self.headers.get("Origin"):
            return None
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            return None
        body = self.rfile.read(int(length)).decode("utf-8", "replace")
        try:
            form = {name: values[0] for name, values in parse_qs(body, max_num_fields=20).items()}
        except ValueError:
            return None
        return form if self.path == _PATH and form.get("grant_type") == _GRANT else None

    def _exchanged(self) -> tuple[int, dict[str, Any]]:
        try:
            found = self.server.fetch()
        except UnreachableError as error:
            return 503, {"error": "temporarily_unavailable", "error_description": error.message}
        except SpanctlError as error:
            return 400, {"error": "invalid_grant", "error_description": error.message}
        return 200, {
            "access_token": found.token.reveal_text(),
            "issued_token_type": _ISSUED,
            "token_type": "Bearer",
            "expires_in": max(0, int((found.expiry - now()).total_seconds())),
        }

    def _answer(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.server.waits(self.connection)
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:  # noqa: ANN401 - the base's
        """Log nothing: stderr is the child's."""
