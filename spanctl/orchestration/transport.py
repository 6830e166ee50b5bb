"""Requests to Prefect's API: each with a deadline, sent again only where that is harmless."""

import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import uuid4

from spanctl.answers import TooLongError
from spanctl.clock import monotonic
from spanctl.errors import (
    NotFoundError,
    NotPermittedError,
    SpanctlError,
    UnreachableError,
    UsageError,
)
from spanctl.exchanges import sending
from spanctl.orchestration.connections import (
    LARGEST,
    Answer,
    Connections,
    LostError,
    NotConnectedError,
    basic,
)
from spanctl.orchestration.settings import ApiSettings

if TYPE_CHECKING:
    import ssl

_BUSY = frozenset({429, 500, 502, 503, 504})  # a server on SQLite answers 503 under light load
_NOT_PERMITTED = frozenset({401, 403})
_FORBIDDEN = 403
_TOKEN = b"CSRF token"
_NOT_FOUND = 404
_REFUSED = frozenset({400, 409, 422})
_ERRORS = 400
_ELSEWHERE = range(300, 400)
_CONNECT_ATTEMPTS = 2
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0


def _encoded(body: Any) -> bytes:  # noqa: ANN401 - JSON
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        msg = "a value for Prefect is infinite, or no number"
        raise UsageError(msg, hint="give finite numbers") from None


def _wants_token(answer: Answer | None) -> bool:
    return answer is not None and answer.status == _FORBIDDEN and _TOKEN in answer.content


class Transport:
    """JSON over HTTP to one API; thread-safe, connects at the first request."""

    def __init__(self, settings: ApiSettings, *, timeout: float = 10.0) -> None:
        """Remember where the API is.

        Args:
            settings: Where it is, and what opens it.
            timeout: Seconds that one request may take, everything included.
        """
        self.settings = settings
        self.timeout = timeout
        self._connected: Connections | None = None
        self._connecting = threading.Lock()
        scheme, marks, rest = settings.url.rpartition("://")
        where, slash, path = rest.partition("/")
        self._host = where.rpartition("@")[2]  # what is before it is a password
        self._shown = f"{scheme}{marks}{self._host}{slash}{path}"

    @property
    def _client(self) -> Connections:
        if (found := self._connected) is not None:
            return found
        with self._connecting:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> Connections:
        headers = {**self.settings.headers, "User-Agent": "spanctl", "Accept": "application/json"}
        if self.settings.auth_string:
            headers["Authorization"] = basic(self.settings.auth_string)
        elif self.settings.key:
            headers["Authorization"] = f"Bearer {self.settings.key}"
        return Connections(self.settings.url, headers, self._trust())

    def _trust(self) -> "ssl.SSLContext | None":
        if not self.settings.url.startswith("https:"):
            return None  # nothing to verify, and loading certificates takes 20 ms
        import ssl

        return ssl.create_default_context(cafile=self.settings.certificates)

    def request(  # noqa: PLR0913 - a request, told in full
        self,
        method: str,
        path: str,
        body: Any = None,  # noqa: ANN401 - JSON
        *,
        params: dict[str, str] | None = None,
        repeatable: bool = True,
        doing: str = "reading from Prefect",
    ) -> tuple[int, Any]:
        """Send a request and return the status and the JSON of the answer.

        Args:
            method: The HTTP method.
            path: The path below the API's URL.
            body: What to send, as JSON.
            params: The query's parameters.
            repeatable: Whether it is harmless to send it twice.
            doing: What is being done, for the message of an error.

        Raises:
            NotFoundError: What the path names doesn't exist.
            NotPermittedError: The API key or auth string is missing or refused.
            UsageError: The API refused the request; ``details["status"]`` says how.
            UnreachableError: There was no answer in time, or none that could be read.
        """
        deadline = monotonic() + self.timeout
        target = f"{path}?{urlencode(params)}" if params else path
        sent = None if body is None else _encoded(body)
        pause = _FIRST_PAUSE
        failed_to_connect = 0
        has_asked = False
        while True:
            try:
                answer, connected = self._send(method, target, sent, deadline)
            except TooLongError:
                msg = f"{self._shown} answered more than {LARGEST >> 20} MiB while {doing}"
                raise UnreachableError(msg, hint="ask for less, or look at what answers") from None
            if _wants_token(answer) and not has_asked:
                has_asked = True
                if self._fetch_token(deadline):
                    continue
            failed_to_connect += not connected
            if answer is not None and answer.status not in _BUSY:
                return self._read(answer, doing)
            again = (repeatable or not connected) and failed_to_connect < _CONNECT_ATTEMPTS
            if not again or monotonic() + pause >= deadline:
                raise self._unreachable(answer, doing)
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - to spread retries
            pause = min(_LONGEST_PAUSE, pause * 2)

    def _send(
        self, method: str, path: str, body: bytes | None, deadline: float
    ) -> tuple[Answer | None, bool]:
        """Return the answer, None if there was none, and whether the server was reached."""
        try:
            with sending("prefect", f"{method} {path}", self._host) as sent:
                answer = self._client.send(method, path, body, deadline)
                sent.ended(str(answer.status))
        except NotConnectedError:
            return None, False
        except LostError:
            return None, True
        return answer, True

    def _fetch_token(self, deadline: float) -> bool:
        """Have the token sent that a server asks for against forged requests of web pages."""
        client = str(uuid4())
        answer, _ = self._send("GET", f"/csrf-token?client={client}", None, deadline)
        if answer is None or answer.status >= _ERRORS:
            return False
        try:
            token = str(json.loads(answer.content)["token"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        self._client.add({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client})
        return True

    def _read(self, answer: Answer, doing: str) -> tuple[int, Any]:
        status = answer.status
        if status in _NOT_PERMITTED:
            msg = f"Prefect at {self._shown} refused the credentials while {doing}"
            hint = "set PREFECT_API_KEY, or: spanctl context set prefect_api_key=secret:..."
            raise NotPermittedError(msg, hint=hint, status=status)
        if status == _NOT_FOUND:
            msg = f"Prefect answered 'not found' while {doing}"
            raise NotFoundError(msg, hint=f"is {self._shown} the right API?", status=status)
        if status in _REFUSED:
            msg = f"Prefect refused the request while {doing}"
            raise UsageError(msg, status=status)
        if status in _ELSEWHERE:  # not followed: it could take along what opens the API
            msg = f"{self._shown} sends elsewhere (status {status}) while {doing}"
            hint = "name the API's own URL; where a log-in stands before it, set prefect_headers"
            raise UnreachableError(msg, hint=hint, status=status)
        if status >= _ERRORS:
            msg = f"Prefect answered {status} while {doing}"
            raise SpanctlError(msg, hint="look at the server's log", status=status)
        try:
            return status, json.loads(answer.content) if answer.content else None
        except (ValueError, RecursionError) as error:  # no JSON, or nested without an end
            msg = f"{self._shown} answered something else than JSON while {doing}"
            raise UnreachableError(msg, hint="the URL of a Prefect API ends in /api") from error

    def _unreachable(self, answer: Answer | None, doing: str) -> UnreachableError:
        what = "did not answer" if answer is None else f"answered {answer.status}"
        msg = f"Prefect at {self._shown} {what} while {doing}"
        hint = "run: spanctl local status, or check PREFECT_API_URL"
        details = {} if answer is None else {"status": answer.status}
        return UnreachableError(msg, hint=hint, **details)

    def close(self) -> None:
        """Close the connections, if there are any."""
        with self._connecting:
            if self._connected is not None:
                self._connected.close()
