"""Opening a page of the stack's own Prefect server signed in, the secret in no URL and no history.

Prefect's pages keep what opens their API in the browser's storage, under its origin. A file that
only its owner reads posts it to the server, whose answer puts it there and goes on to the page.
"""

import hashlib
import html
import json
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from spanctl.local.state import Folder, write_private

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fastapi.responses import Response

    from spanctl.credentials.secret import Secret

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Message, Receive, Send], Awaitable[None]]

PATH: Final = "/spanctl/sign-in"
"""Where the server takes what the file posts."""

_LONGEST: Final = 8192
_STORED: Final = "prefect-password"  # the name that Prefect's pages keep it under
_FILE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Prefect</title>
<form method="post" action="{action}">
<input type="hidden" name="auth" value="{auth}"><input type="hidden" name="to" value="{to}">
<button>Open Prefect</button></form>
<script>document.forms[0].submit()</script></html>
"""
_ANSWER: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Prefect</title><script>{script}</script></html>
"""


def write_page(folder: Folder, auth: "Secret", page: str) -> Path:
    """Write the file that opens a page of the stack's server, signed in.

    Args:
        folder: The stack's folder.
        auth: What opens the server.
        page: The page's URL.

    Raises:
        ConfigurationError: It can't be written.
    """
    at = urlsplit(page)
    values = {
        "action": f"{at.scheme}://{at.netloc}{PATH}",
        "auth": auth.reveal_text(),
        "to": at.path or "/",
    }
    escaped = {name: html.escape(value, quote=True) for name, value in values.items()}
    write_private(folder.page, _FILE.format(**escaped))
    return folder.page


class SignIn:
    """ASGI middleware that answers such a file; all else goes on to the application."""

    def __init__(self, app: "App", auth: "Secret") -> None:
        """Stand before the application.

        Args:
            app: The application.
            auth: What opens the server.
        """
        self._app = app
        self._auth = auth

    async def __call__(self, scope: "Message", receive: "Receive", send: "Send") -> None:
        """Answer a request for the path of sign-ins."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        answer = await self._answer(scope, receive)
        await answer(scope, receive, send)

    async def _answer(self, scope: "Message", receive: "Receive") -> "Response":
        from fastapi.requests import Request
        from fastapi.responses import HTMLResponse, PlainTextResponse

        from spanctl.credentials.secret import Secret

        request = Request(scope, receive)
        if request.method != "POST":
            return PlainTextResponse("run: spanctl runs open\n", 405)
        content = b""
        async for part in request.stream():
            content += part
            if len(content) > _LONGEST:
                return PlainTextResponse("too long\n", 413)
        form = parse_qs(content.decode(errors="replace"))
        given, to = (form.get(name, [""])[0] for name in ("auth", "to"))
        is_page = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
        if Secret(given) != self._auth or not is_page:
            return PlainTextResponse("refused; run: spanctl runs open\n", 403)
        script = _script(given, to)
        digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
        headers = {
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": f"default-src 'none'; script-src 'sha256-{digest}'",
        }
        return HTMLResponse(_ANSWER.format(script=script), headers=headers)


def _script(auth: str, to: str) -> str:
    stored = b64encode(auth.encode()).decode()
    return f"localStorage.setItem({_js(_STORED)},{_js(stored)});location.replace({_js(to)})"


def _js(value: Any) -> str:  # noqa: ANN401 - JSON
    return json.dumps(value).replace("<", "\\u003c")
