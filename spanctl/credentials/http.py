"""HTTPS to Google's identity services, or to stand-ins: bounded in time, errors told as ours."""

import http.client
import json
import re
import socket
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests
from google.auth import exceptions
from google.auth.transport import Response
from google.auth.transport.requests import Request
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from spanctl.answers import Answer, TooLongError
from spanctl.clock import monotonic
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.hardening import without_locals
from spanctl.credentials.secret import Secret
from spanctl.errors import (
    ConfigurationError,
    NotFoundError,
    NotPermittedError,
    SpanctlError,
    UnreachableError,
)
from spanctl.exchanges import sending

TIMEOUT: Final = 15.0
_LARGEST: Final = 4 * 1024 * 1024
QUOTA_PROJECT: Final = "x-goog-user-project"
"""Header that says whose quota a request uses."""
_CODE: Final = re.compile("[A-Z_]{1,40}")
_LATER: Final = frozenset({408, 429, 500, 502, 503, 504})


class Http:
    """google-auth's transport: trusts the endpoints' CA, and waits 15 seconds at most."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Trust what the endpoints say; nothing is sent yet."""
        session = requests.Session()
        session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter())
        if endpoints.ca_file:
            session.verify = endpoints.ca_file
            # REQUESTS_CA_BUNDLE would win over verify, and stand-ins are behind no proxy.
            session.trust_env = False
        self._request = Request(session)

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,  # noqa: ANN401 - google-auth's interface
    ) -> Response:
        """Send once and return the response; a redirect is not followed, it could take tokens."""
        limit = min(timeout or TIMEOUT, TIMEOUT)
        kwargs.setdefault("allow_redirects", False)
        asked = urlsplit(url)
        where = asked.netloc.rpartition("@")[2]
        with sending("identity", f"{method} {asked.path}", where) as sent:
            _time.over = monotonic() + limit
            try:
                response: Response = self._request(
                    url, method=method, body=body, headers=headers, timeout=limit, **kwargs
                )
                _refuse_deep(response.data)
            except TooLongError:
                msg = "the answer is too long"
                raise exceptions.TransportError(msg) from None
            sent.ended(str(response.status))
        return response


_time = threading.local()
"""``over``: when the answer to what this thread is asking has to be there."""


class _Answer(Answer):
    """An answer that is over in time, and that nothing has packed: what is packed has no bound."""

    def __init__(self, sock: socket.socket, **more: Any) -> None:  # noqa: ANN401 - the base's
        super().__init__(sock, deadline=_time.over, most=_LARGEST, **more)

    def begin(self) -> None:
        super().begin()
        if self.headers.get("Content-Encoding", "identity").lower() != "identity":
            msg = "the answer is packed"
            raise http.client.HTTPException(msg)


class _Connection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """requests' own, over such connections, a proxy's too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the base's
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the base's
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS: Final = {"http": _Pool, "https": _SecurePool}


def _refuse_deep(content: bytes) -> None:
    """Refuse JSON without a bottom, which google-auth would not take for an error of the server."""
    try:
        json.loads(content)
    except RecursionError:
        msg = "the answer is nested too deeply"
        raise exceptions.TransportError(msg) from None
    except ValueError:  # to say so is for who reads it
        return


@without_locals()
def call(  # noqa: PLR0913 - a request, told in full
    http: Http,
    method: str,
    url: str,
    doing: str,
    *,
    token: Secret | None = None,
    body: Mapping[str, Any] | None = None,
    form: Mapping[str, str] | None = None,
    quota_project: str | None = None,
) -> dict[str, Any]:
    """Call a JSON API and return its answer.

    Args:
        http: The transport.
        method: The HTTP method.
        url: Where.
        doing: What is being done, to end the sentence "... while ...".
        token: The bearer token.
        body: What to send as JSON.
        form: What to send as a form instead.
        quota_project: The project whose quota it uses; None for the caller's own.

    Raises:
        UnreachableError: No answer came, or one that may be another one later.
        NotPermittedError: Not authenticated, or not allowed.
        NotFoundError: There is no such thing.
        ConfigurationError: The request was refused.
    """
    headers = {"Content-Type": "application/json"}
    data = json.dumps(body) if body is not None else None
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        data = urlencode(form)
    if token is not None:
        headers["Authorization"] = f"Bearer {token.reveal_text()}"
    if quota_project is not None:
        headers[QUOTA_PROJECT] = quota_project
    failed = None
    try:
        response = http(url, method=method, body=data, headers=headers)
    except exceptions.TransportError:
        failed = _unreachable(url, doing)
    # Raised outside of the handler: the transport's errors hold the request, its token included.
    if failed is not None:
        raise failed
    if response.status != requests.codes.ok:
        raise _refused(int(response.status), url, doing, _reason(response.data))
    try:
        answer = json.loads(response.data or b"{}")
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _unreachable(url, doing)
    return answer


def _unreachable(url: str, doing: str) -> UnreachableError:
    msg = f"{urlsplit(url).netloc} did not answer while {doing}"
    return UnreachableError(msg, hint="check the network, or: spanctl local status")


def _reason(answer: object) -> str:
    """Return the code in an error of Google's APIs; empty if there is none. Its text isn't kept."""
    try:
        code = json.loads(answer)["error"]["status"] if isinstance(answer, bytes | str) else ""
    except (ValueError, KeyError, TypeError):
        return ""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _refused(status: int, url: str, doing: str, reason: str) -> SpanctlError:
    host = urlsplit(url).netloc
    if status in _LATER:
        return _unreachable(url, doing)
    if status in {401, 403}:
        msg = f"{host} refused the credentials while {doing}"
        return NotPermittedError(msg, hint="check their roles, or log in again", status=status)
    if status == requests.codes.not_found:
        msg = f"{host} knows no such thing while {doing}"
        return NotFoundError(msg, hint="check the names", status=status)
    msg = f"{host} refused the request while {doing} (HTTP {status})"
    hint = "check the names and the endpoints"
    return ConfigurationError(msg, hint=hint, status=status, reason=reason)
