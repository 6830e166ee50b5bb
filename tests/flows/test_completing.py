"""The completions' cache, renewed from a real server and a real database."""

import json
import time
from collections.abc import Iterator
from typing import NoReturn

import pytest
from prefect import flow

from spanctl.errors import UnreachableError
from spanctl.settings import resolve
from spanctl_cli.completing import refresh
from spanctl_cli.completing.cache import Cache
from spanctl_cli.context import AppContext
from tests.cli.test_completing import answered
from tests.faults.emulator import free_port
from tests.flows.bank import Bank, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]
_PATIENCE = 120


def _values(line: str) -> list[str]:
    ended = answered(line)
    assert (ended.exit_code, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def _awaited(line: str) -> Iterator[list[str]]:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        yield _values(line)
        time.sleep(0.5)


def _down(_: AppContext) -> NoReturn:
    msg = "down"
    raise UnreachableError(msg)


@pytest.mark.usefixtures("prefect")
def test_a_tab_has_names_and_ids_fetched(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first TAB starts a detached process; when it is done, runs, tables and txns are known.

    With everything down they stay known, and nothing but names and IDs was written down.
    """
    canary = "canary-4711"

    @flow(flow_run_name="we:ird one")
    def paid() -> None:
        deposit("a", 47119)

    monkeypatch.setenv("SPANCTL_REASON", canary)
    paid()
    (receipt,) = bank.receipts()
    tables = next((found for found in _awaited("spanctl run import x --table ") if found), [])
    assert "accounts" in tables
    assert not [name for name in tables if name.startswith("spanctl_")]
    assert receipt.txn_id in _values("spanctl audit ")
    assert _values("spanctl runs show 'we:i") == ["we:ird one"]
    assert receipt.provenance.flow_run in _values("spanctl runs show ")
    cache = Cache.of(resolve())
    text = cache.path.read_text()
    assert canary not in text
    assert "47119" not in text
    assert set(json.loads(text)) == {"values"}

    known = cache.read()
    monkeypatch.setattr(refresh, "_database", _down)  # a real one keeps it waiting for a minute
    app = AppContext.build(context=None, quiet=True, verbose=False, no_input=True)
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    refresh.renew(cache, app)
    assert cache.read() == known
    assert {one.suffix for one in cache.path.parent.iterdir()} == {".json", ".asked"}
