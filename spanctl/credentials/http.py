"""HTTPS to Google's identity services, or to stand-ins: bounded in time, errors told as ours."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests
from google.auth import exceptions
from google.auth.transport import Response
from google.auth.transport.requests import Request

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
QUOTA_PROJECT: Final = "x-goog-user-project"
"""Header that says whose quota a request uses."""
_CODE: Final = re.compile("[A-Z_]{1,40}")
_LATER: Final = frozenset({408, 429, 500, 502, 503, 504})


class Http:
    """google-auth's transport: trusts the endpoints' CA, and waits 15 seconds at most."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Trust what the endpoints say; nothing is sent yet."""
        session = requests.Session()
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
            response: Response = self._request(
                url, method=method, body=body, headers=headers, timeout=limit, **kwargs
            )
            sent.ended(str(response.status))
        return response


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
