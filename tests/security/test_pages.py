"""No web page gets into the local stack; its own pages open signed in, and leave no trace."""

import base64
import functools
import http.server
import json
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from spanctl.local.stack import Stack
from tests.fixtures.browser import Browser
from tests.fixtures.cli import Ended
from tests.fixtures.prefect import server
from tests.local.conftest import opened
from tests.security.stranger import PATIENCE, names_of_flows, preflight, run, serving

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]

_PAGE: Final = """<!doctype html><title>elsewhere</title>
<iframe name="sink"></iframe>
<form id="form" method="post" target="sink" enctype="text/plain" action="{api}/flows/">
<input name='{{"name": "form", "tags": ["' value='"]}}'></form>
<script>
async function attack() {{
  const told = {{}};
  const tries = {{
    json: {{method: "POST", headers: {{"Content-Type": "application/json"}},
           body: '{{"name": "json"}}'}},
    plain: {{method: "POST", mode: "no-cors", body: '{{"name": "plain"}}'}},
    bare: {{method: "POST", mode: "no-cors", body: new Blob(['{{"name": "bare"}}'])}},
    credentials: {{method: "POST", credentials: "include",
                  headers: {{"Content-Type": "application/json"}},
                  body: '{{"name": "credentials"}}'}},
  }};
  for (const [name, how] of Object.entries(tries)) {{
    try {{
      const answer = await fetch("{api}/flows/", how);
      told[name] = answer.type + " " + answer.status + " " + (await answer.text()).slice(0, 20);
    }} catch (error) {{
      told[name] = "refused";
    }}
  }}
  document.getElementById("form").submit();
  await new Promise(resolve => setTimeout(resolve, 1000));
  told.stored = Object.keys(localStorage);
  return JSON.stringify(told);
}}
</script>"""


# -- web pages


def test_only_its_own_pages_may_ask(stack: Stack) -> None:
    """A preflight of another origin is refused, by name, scheme and port."""
    base = opened(stack)["PREFECT_API_URL"]
    own = base.removesuffix("/api")
    port = own.rpartition(":")[2]
    assert preflight(base, own) == 200
    assert preflight(base, f"http://localhost:{port}") == 200
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}", "http://127.0.0.1"):
        assert preflight(base, origin) == 400, origin


@pytest.mark.parametrize("word", [None, "", "spanctl:wrong"])
def test_sockets_ask_for_it_too(stack: Stack, word: str | None) -> None:
    """Events flow to nobody who doesn't know it; the control does."""
    base = opened(stack)["PREFECT_API_URL"].replace("http://", "ws://")
    right = opened(stack)["PREFECT_API_AUTH_STRING"]
    for given, opens in ((word, False), (right, True)):
        with connect(f"{base}/events/out", subprotocols=["prefect"], proxy=None) as socket:  # type: ignore[list-item]
            socket.send(json.dumps({"type": "auth", "token": given}))
            if opens:
                assert json.loads(socket.recv(PATIENCE)) == {"type": "auth_success"}
            else:
                with pytest.raises(ConnectionClosed):
                    socket.recv(PATIENCE)


def attack(browser: Browser, api: str, folder: Path) -> dict[str, Any]:
    """Open a page of another origin, which asks an API for flows in every way that pages have."""
    (folder / "index.html").write_text(_PAGE.format(api=api))
    quiet = functools.partial(Quiet, directory=str(folder))
    with serving(quiet) as url:
        browser.open(f"{url}/index.html")
        told: dict[str, Any] = json.loads(browser.run("attack()"))
    return told


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_page_elsewhere_gets_nowhere(stack: Stack, browser: Browser, tmp_path: Path) -> None:
    """Not even in the browser in which the owner is signed in."""
    api = opened(stack)["PREFECT_API_URL"]
    signed_in = stack.sign_in(f"{api.removesuffix('/api')}/runs")
    assert signed_in is not None
    browser.open(signed_in.as_uri())
    browser.until("location.protocol === 'http:' && !!localStorage.getItem('prefect-password')")
    told = attack(browser, api, tmp_path)
    assert told.pop("stored") == []
    assert {told[name] for name in ("json", "credentials")} == {"refused"}
    assert names_of_flows(stack).isdisjoint({"json", "plain", "bare", "credentials", "form"})


def test_a_page_elsewhere_would_use_an_open_server(browser: Browser, tmp_path: Path) -> None:
    """Control: Prefect's server as it comes does what such a page asks for."""
    (tmp_path / "server").mkdir()
    with server(tmp_path / "server") as api:
        told = attack(browser, api, tmp_path)
    assert told["json"].startswith("cors 201")


# -- runs open


def test_runs_open_signs_in_and_leaves_no_trace(
    stack: Stack,
    environ: dict[str, str],
    browser: Browser,
    terminal: Callable[..., Ended],
    tmp_path: Path,
) -> None:
    """The page is there without a question; the secret is in no argument, address or history."""
    told = run(environ, "run", "sql", "-e", "SELECT 1", "-o", "json")
    assert told.returncode == 0, told.stderr
    opener = tmp_path / "opener"
    opener.write_text(f'#!/bin/sh\nprintf "%s" "$*" > {tmp_path}/opened\n')
    opener.chmod(0o755)
    word = opened(stack)["PREFECT_API_AUTH_STRING"]
    secrets = {word, word.partition(":")[2], base64.b64encode(word.encode()).decode()}
    listed = run(environ, "runs", "list", "--limit", "1", "-o", "name").stdout.split()[0]
    for given in ((), (listed,)):
        shown = terminal("runs", "open", *given, env={**environ, "BROWSER": str(opener)})
        assert shown.exit_code == 0, shown.stdout
        address = (tmp_path / "opened").read_text()
        assert address == stack.folder.page.as_uri()
        assert stat.S_IMODE(stack.folder.page.stat().st_mode) == 0o600
        browser.open(address)
        browser.until("location.protocol === 'http:'")
        browser.until("document.body && document.body.innerText.length > 40")
        assert listed in browser.run("location.href") if given else True
        assert "assword" not in browser.text()
        assert browser.run("fetch('/api/admin/version').then(answer => answer.status)") == 401
        assert not [one for one in browser.history() if any(secret in one for secret in secrets)]
        assert not any(secret in shown.stdout for secret in secrets)
    assert stack.down()
    assert not stack.folder.page.exists()


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"auth": "spanctl:wrong", "to": "/runs"}, 403),
        ({"to": "/runs"}, 403),
        ({"auth": None, "to": "//evil.example/"}, 403),
        ({"auth": None, "to": "/\\evil.example/"}, 403),
        ({"auth": None, "to": "https://evil.example/"}, 403),
        ({"auth": None}, 403),
        ({"auth": None, "to": "/" + "x" * 10_000}, 413),
    ],
)
def test_no_other_sign_in_is_taken(stack: Stack, form: dict[str, str | None], status: int) -> None:
    """Not with another word, nor to go on to another place."""
    word = opened(stack)["PREFECT_API_AUTH_STRING"]
    filled = {name: word if value is None else value for name, value in form.items()}
    assert sign_in(stack, filled)[0] == status


def test_a_page_s_name_can_t_be_a_script(stack: Stack) -> None:
    """Whatever stands in it is a string in the answer, which runs this one script only."""
    to = '/</script><script>alert(1)</script>";alert(2);"'
    word = opened(stack)["PREFECT_API_AUTH_STRING"]
    status, text, headers = sign_in(stack, {"auth": word, "to": to})
    assert status == 200
    assert text.count("<script") == text.count("</script") == 1
    assert json.dumps(to).replace("<", "\\u003c") in text
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha256-")


def sign_in(stack: Stack, form: Mapping[str, str]) -> tuple[int, str, Mapping[str, str]]:
    base = opened(stack)["PREFECT_API_URL"].removesuffix("/api")
    answer = httpx.post(f"{base}/spanctl/sign-in", data=dict(form), timeout=PATIENCE)
    return answer.status_code, answer.text, answer.headers
