"""Ledgers of older versions: the one before is worked with, older ones are migrated first."""

import json
import re
import uuid
from collections.abc import Callable

import pytest

from spanctl.errors import SchemaVersionError
from spanctl.ledger.receipt import Standing
from spanctl.resources import DatabaseName
from spanctl.spanner import admin, ddl, executors, receipts, schema
from spanctl.spanner.client import Database, Target
from spanctl.spanner.identity import SETTINGS, read_settings, requests_since
from spanctl.spanner.run import Run
from tests.faults import raw
from tests.fixtures.cli import Spanctl

pytestmark = pytest.mark.emulator

OLD = str(uuid.UUID(int=1))
TABLES = {
    "spanctl_attestations": 2,
    "spanctl_watches": 3,
    "spanctl_executors": 4,
    "spanctl_observations": 4,
    "spanctl_recoveries": 4,
}
INDEXES = {receipts.BY_KEY: 2, "spanctl_intents_by_request": 3}


def _added(version: int) -> list[tuple[str, str]]:
    """Table and column of all that came after a version."""
    return [
        (table, name)
        for table, versions in ddl.ADDED.items()
        for since, names in versions.items()
        for name in names
        if since > version
    ]


def _old_ddl(version: int) -> list[str]:
    """The DDL of an older version, as its release had it."""
    lines = "|".join(name for _, name in _added(version))
    tables = [
        re.sub(rf"^  ({lines}) .*\n", "", text, flags=re.MULTILINE)
        for name, text in ddl.TABLES.items()
        if TABLES.get(name, 1) <= version
    ]
    return tables + [t for name, t in ddl.INDEXES.items() if INDEXES.get(name, 1) <= version]


@pytest.fixture
def old(
    request: pytest.FixtureRequest,
    emulator: str,
    database: Callable[..., DatabaseName],
    monkeypatch: pytest.MonkeyPatch,
) -> Target:
    """A ledger as version 1 (or the parameter) left it, with one receipt; in the environment."""
    version = getattr(request, "param", 1)
    name = database(*_old_ddl(version))
    with raw.database(emulator, name.database) as google, google.batch() as batch:
        rows = [("ledger_id", "L"), ("ledger_key", "a2V5"), ("schema_version", str(version))]
        columns = ("name", "value", "updated_at")
        batch.insert(SETTINGS, columns, [(*row, receipts.COMMIT_TIMESTAMP) for row in rows])
        batch.insert(
            receipts.TABLE,
            ("txn_id", "kind", "commit_timestamp", "operation_key", "epoch", "initiator"),
            [(OLD, "COMMITTED", receipts.COMMIT_TIMESTAMP, "r/s#0", 0, "ada@laptop")],
        )
    monkeypatch.setenv("SPANCTL_PROJECT", name.project)
    monkeypatch.setenv("SPANCTL_INSTANCE", name.instance)
    monkeypatch.setenv("SPANCTL_DATABASE", name.database)
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", emulator)
    return Target(database=name, emulator_host=emulator)


def test_an_old_ledger_is_migrated_once(old: Target, spanctl: Spanctl) -> None:
    """It is refused until ``init``; that adds what is missing and keeps what is there."""
    with Database(old) as database:
        with pytest.raises(SchemaVersionError, match="version 1") as refused:
            _ = database.ledger
        assert "spanctl init" in refused.value.hint
        with Run(database, "r") as run, pytest.raises(SchemaVersionError):
            run.step("s", lambda _: None, arguments={"a": 1})
        planned = json.loads(spanctl("init", "--dry-run", "-o", "json").stdout)
        statements = [row["ddl"] for row in planned["items"]]
        assert [one for one in statements if one.startswith("ALTER TABLE")] == [
            f"ALTER TABLE {table} ADD COLUMN {name} {ddl.columns_of(table)[name]}"
            for table, name in _added(1)
        ]
        assert not [one for one in statements if one.startswith("DROP")]
        assert read_settings(database)["schema_version"] == "1"
        # Interrupted: half of it is there, and the version is still the old one.
        half = [one for one in statements if one.startswith("ALTER")][:3]
        admin.execute_ddl(old, half)
        done = json.loads(spanctl("init", "-o", "json").stdout)
        assert (done["schema_version"], done["created"]) == (4, False)
        assert done["executed"] == len(statements) - len(half)
        again = json.loads(spanctl("init", "-o", "json").stdout)
        assert (again["schema_version"], again["executed"]) == (4, 0)
        assert again["ledger_id"] == "L"
        kept = receipts.get(database, OLD)
        assert kept is not None
        assert kept.provenance.initiator == "ada@laptop"
        assert kept.provenance.initiator_standing is Standing.CLAIMED
        with Run(database, "r") as run:
            run.step("s", lambda _: None, arguments={"a": 1})


@pytest.mark.parametrize("old", [3], indirect=True)
def test_the_version_before_is_worked_with(old: Target) -> None:
    """Before and after ``init``: what the old version holds is replayed under the new one."""
    with Database(old) as database:
        with Run(database, "r") as run:
            first = run.step("s", lambda _: None, key="k", arguments={"a": 1})
        found = receipts.get(database, first.txn_id)
        assert found is not None
        assert found.operation_key == "r/s=k"
        assert found.step_identity is None
        assert [one.txn_id for one in receipts.find(database, first.txn_id[:8])] == [first.txn_id]
        assert executors.read(database) == []
        since = requests_since(database)
        assert schema.install(database).schema_version == 4
        assert requests_since(database) == since
        assert read_settings(database)["requests_since"]
        with Run(database, "r") as run:
            again = run.step("s", lambda _: None, key="k", arguments={"a": 1})
        assert (again.txn_id, again.replayed) == (first.txn_id, True)


def test_a_newer_ledger_is_refused(old: Target) -> None:
    """Neither a flow nor ``init`` touches a version that it doesn't know."""
    with Database(old) as database:
        schema.install(database)
        row = ("schema_version", "5", receipts.COMMIT_TIMESTAMP)
        made = raw.database(str(old.emulator_host), old.database.database)
        with made as google, google.batch() as batch:
            batch.update(SETTINGS, ("name", "value", "updated_at"), [row])
        database.forget_ledger()
        for touch in (lambda: database.ledger, lambda: schema.install(database)):
            with pytest.raises(SchemaVersionError, match="version 5, this spanctl knows 4") as told:
                touch()
            assert told.value.hint == "upgrade spanctl"
