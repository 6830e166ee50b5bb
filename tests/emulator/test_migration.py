"""A ledger of version 1 becomes one of version 2: nothing is lost, and nobody runs on it before."""

import json
import re
import uuid
from collections.abc import Callable

import pytest

from spanctl.errors import SchemaVersionError
from spanctl.ledger.receipt import Standing
from spanctl.resources import DatabaseName
from spanctl.spanner import admin, ddl, receipts, schema
from spanctl.spanner.client import Database, Target
from spanctl.spanner.identity import SETTINGS, read_settings
from spanctl.spanner.run import Run
from tests.faults import raw
from tests.fixtures.cli import Spanctl

pytestmark = pytest.mark.emulator

OLD = str(uuid.UUID(int=1))
ADDED = [name for names in ddl.ADDED.values() for new in names.values() for name in new]


def _old_ddl() -> list[str]:
    """The DDL of version 1, as its release had it."""
    lines = "|".join(ADDED)
    tables = [
        re.sub(rf"^  ({lines}) .*\n", "", text, flags=re.MULTILINE)
        for name, text in ddl.TABLES.items()
        if name != "spanctl_attestations"
    ]
    return [*tables, *(text for name, text in ddl.INDEXES.items() if name != receipts.BY_KEY)]


@pytest.fixture
def old(
    emulator: str, database: Callable[..., DatabaseName], monkeypatch: pytest.MonkeyPatch
) -> Target:
    """A ledger as version 1 left it, with one receipt; named by the environment."""
    name = database(*_old_ddl())
    with raw.database(emulator, name.database) as google, google.batch() as batch:
        rows = [("ledger_id", "L"), ("ledger_key", "a2V5"), ("schema_version", "1")]
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
            f"ALTER TABLE {receipts.TABLE} ADD COLUMN {name} {ddl.columns_of(receipts.TABLE)[name]}"
            for name in ADDED
        ]
        assert not [one for one in statements if one.startswith("DROP")]
        assert read_settings(database)["schema_version"] == "1"
        # Interrupted: half of it is there, and the version is still the old one.
        half = [one for one in statements if one.startswith("ALTER")][:3]
        admin.execute_ddl(old, half)
        done = json.loads(spanctl("init", "-o", "json").stdout)
        assert (done["schema_version"], done["created"]) == (2, False)
        assert done["executed"] == len(statements) - len(half)
        again = json.loads(spanctl("init", "-o", "json").stdout)
        assert (again["schema_version"], again["executed"]) == (2, 0)
        assert again["ledger_id"] == "L"
        kept = receipts.get(database, OLD)
        assert kept is not None
        assert kept.provenance.initiator == "ada@laptop"
        assert kept.provenance.initiator_standing is Standing.CLAIMED
        with Run(database, "r") as run:
            run.step("s", lambda _: None, arguments={"a": 1})


def test_a_newer_ledger_is_refused(old: Target) -> None:
    """Neither a flow nor ``init`` touches a version that it doesn't know."""
    with Database(old) as database:
        schema.install(database)
        row = ("schema_version", "3", receipts.COMMIT_TIMESTAMP)
        made = raw.database(str(old.emulator_host), old.database.database)
        with made as google, google.batch() as batch:
            batch.update(SETTINGS, ("name", "value", "updated_at"), [row])
        database.forget_ledger()
        for touch in (lambda: database.ledger, lambda: schema.install(database)):
            with pytest.raises(SchemaVersionError, match="version 3, this spanctl knows 2") as told:
                touch()
            assert told.value.hint == "upgrade spanctl"
