"""Importing files: whole or not at all checked, each row once, whatever kills it."""

import json
import signal
import subprocess
import sys

import pytest

from spanctl.errors import ConflictError, DuplicateKeyError, NotFoundError, UsageError
from spanctl.flows import importing, importprogress, importwriter, using
from spanctl.flows.importing import UNLIMITED, ImportOptions, Mode, import_file, preview
from spanctl.ledger.receipt import Receipt
from spanctl.spanner import limbo, receipts, schema
from spanctl.spanner.client import Target, shared
from tests.flows.airports import CHILD, CSV, DDL, head

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]


@pytest.fixture
def target(emulator, database, prefect, monkeypatch):  # noqa: ARG001 - where flows run
    """A database with a ledger and an empty table, named by the environment."""
    name = database(DDL)
    monkeypatch.setenv("SPANCTL_PROJECT", name.project)
    monkeypatch.setenv("SPANCTL_INSTANCE", name.instance)
    monkeypatch.setenv("SPANCTL_DATABASE", name.database)
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", emulator)
    made = Target(database=name, emulator_host=emulator)
    schema.install(shared(made), ["airports"])
    yield made
    shared(made).close()


def ask(target: Target, sql: str):
    return list(shared(target).query(sql))


def count(target: Target) -> int:
    return int(ask(target, "SELECT COUNT(*) FROM airports")[0][0])


def of_import(target: Target) -> list[Receipt]:
    ids = [row[0] for row in ask(target, "SELECT txn_id FROM spanctl_receipts")]
    found = receipts.get_many(shared(target), ids).values()
    return [one for one in found if one.operation_key.startswith("import:")]


def test_a_file_is_imported_with_a_receipt_a_chunk(target, tmp_path):
    """Every row is in, typed; the receipts' counts add up and name the flow run and the task."""
    with using(reason="first load", initiator="ada"):
        result = import_file(str(head(tmp_path / "a.csv", 1000)), "AIRPORTS", chunk_rows=150)
    assert (result.rows, result.written, result.present, result.bad) == (1000, 1000, 0, 0)
    assert (result.chunks, result.chunks_written) == (7, 7)
    assert not result.already
    assert count(target) == 1000
    written = of_import(target)
    assert sum(one.rows for one in written) == 1000
    assert len(written) == 7 + 2
    for one in written:
        assert one.provenance.root_run == result.imported_by
        assert one.provenance.task == "write"
        assert one.provenance.task_run
        assert (one.provenance.reason, one.provenance.initiator) == ("first load", "ada")
        assert one.operation_key.startswith(f"{result.operations}/")
    (row,) = ask(target, "SELECT name, elevation, lid FROM airports WHERE icao = '00AK'")
    assert row == ("Lowell Field", 252.0, "00AK")
    (open_leases,) = ask(
        target, "SELECT COUNT(*) FROM spanctl_intents WHERE open_since IS NOT NULL"
    )
    assert open_leases == (0,)


def test_a_finished_import_is_not_repeated(target, tmp_path):
    """Typed again it writes nothing and names the run that did; new=True writes once more."""
    path = str(head(tmp_path / "a.csv", 300))
    first = import_file(path, "airports", mode="upsert")
    before = len(of_import(target))
    again = import_file(path, "airports", mode="upsert")
    assert (again.already, again.written, again.present) == (True, 0, 300)
    assert again.imported_by == first.imported_by
    assert again.txn_id == first.txn_id
    assert len(of_import(target)) == before
    new = import_file(path, "airports", mode="upsert", new=True)
    assert (new.already, new.written) == (False, 300)
    assert new.operations == f"{first.operations}:2"
    last = import_file(path, "airports", mode="upsert")
    assert (last.already, last.imported_by) == (True, new.imported_by)


@pytest.mark.usefixtures("target")
def test_another_name_is_the_same_import_another_content_is_not(tmp_path):
    """The file's bytes are its identity, not its name; a changed file is imported anew."""
    path = head(tmp_path / "a.csv", 300)
    import_file(str(path), "airports", mode="upsert")
    moved = path.rename(tmp_path / "b.csv")
    assert import_file(str(moved), "airports", mode="upsert").already
    with moved.open("a") as stream:
        stream.write("ZZZZ,,,,,,,,,,\n")
    changed = import_file(str(moved), "airports", mode="upsert")
    assert (changed.already, changed.written) == (False, 301)
    assert import_file(str(moved), "airports", mode="update").written == 301


def test_killed_in_the_middle_and_run_again(target):
    """After kill -9 the same call writes the rest: equal count, no row twice, counts add up."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(CSV)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 8_000:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    there = count(target)
    assert 8_000 <= there < 28_000
    result = import_file(str(CSV), "airports")
    lines = len(CSV.read_bytes().splitlines()) - 1
    assert count(target) == lines == result.rows
    assert result.resumed
    assert (result.present, result.written) == (there, lines - there)
    written = of_import(target)
    assert sum(one.rows for one in written) == lines
    assert len({one.operation_key for one in written}) == len(written) == result.chunks + 2
    assert import_file(str(CSV), "airports").already


class _Killed(BaseException):
    """Ends an import like Ctrl-C, at a chosen chunk."""


def _stop_after(monkeypatch, rows: int, error: BaseException) -> None:
    original = importing.write

    def stopping(job, provenance, *, again, tell):
        def told(done: int, size: int) -> None:
            tell(done, size)
            if done >= rows:
                raise error

        return original(job, provenance, again=again, tell=told)

    monkeypatch.setattr(importing, "write", stopping)


def test_ctrl_c_between_chunks_is_resumed(target, tmp_path, monkeypatch):
    """An interrupted import leaves no limbo, and goes on as it was begun with what isn't in."""
    path = str(head(tmp_path / "a.csv", 1000))
    with monkeypatch.context() as patch:
        _stop_after(patch, 400, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            import_file(path, "airports", chunk_rows=100)
    assert count(target) == 400
    assert limbo.open_leases(shared(target)) == []
    result = import_file(path, "airports", chunk_rows=333)
    assert (result.present, result.written, result.chunks) == (400, 600, 10)
    assert count(target) == 1000


def test_ctrl_c_within_a_commit_is_resolved(target, tmp_path, monkeypatch):
    """Interrupted while a chunk commits, the import neither loses nor repeats that chunk."""
    path = str(head(tmp_path / "a.csv", 600))
    from spanctl.spanner.rpc import Rpc

    original, sent = Rpc.commit, []

    def interrupting(self, request, *, timeout):
        response = original(self, request, timeout=timeout)
        sent.append(request)
        if len(sent) == 5:
            raise KeyboardInterrupt
        return response

    with monkeypatch.context() as patch:
        patch.setattr(Rpc, "commit", interrupting)
        with pytest.raises(KeyboardInterrupt):
            import_file(path, "airports", chunk_rows=100)
    there = count(target)
    assert limbo.open_leases(shared(target)) == []
    result = import_file(path, "airports", chunk_rows=100)
    assert (result.present, result.written) == (there, 600 - there)
    assert count(target) == sum(one.rows for one in of_import(target)) == 600


def test_bad_rows_stop_everything_before_the_first_write(target, tmp_path):
    """One bad row in a thousand: exit as usage, the row named by line, the database untouched."""
    path = head(tmp_path / "a.csv", 1000)
    lines = path.read_text().splitlines()
    lines[499] = lines[499].replace('"US"', '"USA"')
    lines[700] = lines[1]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError) as caught:
        import_file(str(path), "airports")
    assert "2 rows of 1,000" in caught.value.message
    assert "line 500: country has 3 characters, 2 are allowed" in caught.value.message
    assert "nothing was written" in caught.value.message
    assert caught.value.details["rejects"] == str(path.with_name("a.rejects.csv"))
    assert count(target) == 0
    assert of_import(target) == []
    with pytest.raises(UsageError, match="at most 1 may be skipped"):
        import_file(str(path), "airports", skip_bad=1)
    result = import_file(str(path), "airports", skip_bad=UNLIMITED)
    assert (result.rows, result.written, result.bad) == (1000, 998, 2)
    assert count(target) == 998


def test_skipped_rows_stay_skipped_on_a_resume(target, tmp_path, monkeypatch):
    """A resumed import leaves out the same rows: the bad ones, and repeated keys."""
    path = head(tmp_path / "a.csv", 500)
    lines = path.read_text().splitlines()
    lines[450] = lines[1]
    lines[460] = "nonsense"
    path.write_text("\n".join(lines) + "\n")
    with monkeypatch.context() as patch:
        _stop_after(patch, 200, _Killed())
        with pytest.raises(_Killed):
            import_file(str(path), "airports", chunk_rows=100, skip_bad=2)
    result = import_file(str(path), "airports", skip_bad=2)
    assert (result.present, result.written, result.bad) == (200, 298, 2)
    assert count(target) == 498


@pytest.mark.parametrize(
    ("content", "table", "error", "message"),
    [
        ("icao,nmae\nA,b\n", "airports", UsageError, "no column 'nmae'"),
        ("icao,lat\nA,north\n", "airports", UsageError, "line 2: lat is no number"),
        ("name\nx\n", "airports", UsageError, "lacks icao"),
        ("icao,ICAO\nA,B\n", "airports", UsageError, "twice"),
        ("icao,name\nA\n", "airports", UsageError, "line 2: has 1 fields"),
        ("icao,name\n,b\n", "airports", None, ""),
        ("icao\n123456789\n", "airports", UsageError, "9 characters, 8 are allowed"),
        ("", "airports", UsageError, "is empty"),
        ("icao\nA\n", "airport", NotFoundError, "no table airport"),
    ],
)
def test_bad_input_of_every_kind(target, tmp_path, content, table, error, message):  # noqa: PLR0913, PLR0917 - a table of cases
    """Each is refused with one clear line, and nothing is written; an empty key is a key."""
    path = tmp_path / "f.csv"
    path.write_text(content)
    if error is None:
        assert import_file(str(path), table).written == 1
        return
    with pytest.raises(error, match=message):
        import_file(str(path), table)
    assert count(target) == 0
    assert of_import(target) == []


@pytest.mark.usefixtures("target")
def test_a_missing_file_is_told():
    """It is not found, before anything else is looked at."""
    with pytest.raises(NotFoundError, match="no file"):
        import_file("/nowhere/x.csv", "airports")


def test_rows_that_are_there_refuse_their_chunk(target, tmp_path):
    """An insert over existing rows names the lines, and keeps what is in."""
    import_file(str(head(tmp_path / "some.csv", 250)), "airports")
    lines = CSV.read_text().splitlines()
    path = tmp_path / "b.csv"
    path.write_text("\n".join([lines[0], *lines[300:500], *lines[200:300]]) + "\n")
    with pytest.raises(DuplicateKeyError) as caught:
        import_file(str(path), "airports", chunk_rows=100)
    assert "line 202 has a primary key (icao) that airports has already" in caught.value.message
    assert "lines 202 to 301" in caught.value.message
    assert "200 other rows are committed" in caught.value.message
    assert "upsert" in caught.value.hint
    assert count(target) == 450
    assert import_file(str(path), "airports", mode="upsert").written == 300
    assert count(target) == 499


def test_json_lines(target, tmp_path):
    """The same table from JSON Lines, with NULLs and numbers typed."""
    path = tmp_path / "a.jsonl"
    rows = [{"icao": f"A{n}", "name": None, "lat": n / 8, "elevation": n} for n in range(100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert import_file(str(path), "airports").written == 100
    assert ask(target, "SELECT name, lat, elevation FROM airports WHERE icao = 'A9'") == [
        (None, 1.125, 9.0)
    ]


@pytest.mark.usefixtures("target")
def test_an_import_begun_otherwise_is_refused(tmp_path, monkeypatch):
    """Another reading of NULL would mix two readings of one file: refused, unless it is new."""
    path = str(head(tmp_path / "a.csv", 300))
    with monkeypatch.context() as patch:
        _stop_after(patch, 100, _Killed())
        with pytest.raises(_Killed):
            import_file(path, "airports", mode="upsert", chunk_rows=100)
    with pytest.raises(ConflictError, match="other options"):
        import_file(path, "airports", mode="upsert", null="NULL")
    assert import_file(path, "airports", mode="upsert", null="NULL", new=True).written == 300


def test_a_preview_writes_nothing(target, tmp_path):
    """The plan is shown and the ledger stays as it is."""
    path = head(tmp_path / "a.csv", 500)
    found = preview(target, path, "airports", ImportOptions(mode=Mode.UPSERT))
    assert found.plan is not None
    assert (found.plan.rows, found.plan.chunks) == (500, 5)
    assert (found.already, found.resumed) == (False, False)
    assert count(target) == 0
    assert of_import(target) == []
    import_file(str(path), "airports", mode="upsert")
    assert preview(target, path, "airports", ImportOptions(mode=Mode.UPSERT)).already


@pytest.mark.usefixtures("target")
def test_progress_is_told(tmp_path, monkeypatch):
    """Both phases end at the whole file, rows never go back, and the end is told."""
    monkeypatch.setattr(importprogress, "INTERVAL", 0.0)
    seen = []
    with importing.reporting(seen.append):
        import_file(str(head(tmp_path / "a.csv", 1000)), "airports", chunk_rows=100)
    for phase in importing.Phase:
        ours = [one for one in seen if one.phase is phase]
        assert [one.rows for one in ours] == [100 * (n + 1) for n in range(10)]
        assert ours[-1].bytes == ours[-1].total_bytes
        assert ours[-1].seconds_left in (0.0, None)
    assert seen[-1].total_rows == 1000


def test_two_at_once_write_each_row_once(target, tmp_path):
    """Two processes with the same file: together they write it once, and both end well."""
    path = head(tmp_path / "a.csv", 3000)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    ends = [(child.communicate(timeout=120)[1], child.returncode) for child in children]
    assert [code for _, code in ends] == [0, 0], ends
    assert count(target) == 3000
    assert sum(one.rows for one in of_import(target)) == 3000


def test_a_transient_failure_is_resumed_by_prefect(target, tmp_path, monkeypatch):
    """The write task is tried again when Spanner could not be reached, and goes on where it was."""
    from spanctl.errors import UnreachableError

    monkeypatch.setattr(importing._write, "retry_delay_seconds", 0)  # noqa: SLF001 - keeps it short
    original, failed = importwriter.write, []

    def flaky(job, provenance, *, again, tell):
        def told(done: int, size: int) -> None:
            tell(done, size)
            if done >= 300 and not failed:
                failed.append(done)
                msg = "gone"
                raise UnreachableError(msg)

        return original(job, provenance, again=again, tell=told)

    monkeypatch.setattr(importing, "write", flaky)
    result = import_file(str(head(tmp_path / "a.csv", 600)), "airports", chunk_rows=100)
    assert failed == [300]
    assert (result.present, result.written, result.chunks_written) == (0, 600, 6)
    assert count(target) == 600
    assert max(one.provenance.attempt or 0 for one in of_import(target)) == 2


def test_chunks_side_by_side(target, tmp_path):
    """Inserts may run side by side; a refused chunk leaves none of the others undecided."""
    path = head(tmp_path / "a.csv", 1000)
    result = import_file(str(path), "airports", chunk_rows=100, parallel=3)
    assert (result.written, result.chunks_written) == (1000, 10)
    assert count(target) == 1000
    lines = CSV.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[1001:1301], lines[1], *lines[1301:1501]]) + "\n")
    with pytest.raises(DuplicateKeyError, match=r"line 302 .* lines 302 to 401"):
        import_file(str(path), "airports", chunk_rows=100, parallel=3)
    assert sum(one.rows for one in of_import(target)) == count(target)
    for mode, parallel in (("upsert", 2), ("insert", 0), ("insert", 1000), ("merge", 1)):
        with pytest.raises(UsageError):
            import_file(str(path), "airports", mode=mode, parallel=parallel)
