"""Data by the command line: SQL from pipes and odd files, and CSV that goes out and comes back."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanctl.spanner.admin import execute_ddl
from spanctl.spanner.values import display
from tests.faults import raw
from tests.fixtures.cli import Ended, Spanctl
from tests.flows.bank import Bank

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect", "bank")]

BOM = b"\xef\xbb\xbf"
COLUMNS = """
  id INT64 NOT NULL, s STRING(MAX) NOT NULL, t STRING(MAX), j JSON, b BOOL, f FLOAT64, g FLOAT32,
  n NUMERIC, d DATE, m TIMESTAMP, y BYTES(MAX),
  ri ARRAY<INT64>, rt ARRAY<STRING(MAX)>, rj ARRAY<JSON>, rf ARRAY<FLOAT64>, rb ARRAY<BOOL>,
  rn ARRAY<NUMERIC>, rd ARRAY<DATE>, rm ARRAY<TIMESTAMP>, ry ARRAY<BYTES(MAX)>"""
NAMES = "id, s, t, j, b, f, g, n, d, m, y, ri, rt, rj, rf, rb, rn, rd, rm, ry"
DDL = tuple(f"CREATE TABLE {name} ({COLUMNS}) PRIMARY KEY (id)" for name in ("source", "copy"))
VALUES = (
    """1, '', 'x', JSON 'null', TRUE, 0.1, 0.1, NUMERIC '1.50', DATE '2026-01-31',
       TIMESTAMP '2026-11-26 10:00:00.123456789 UTC', b'\\x00\\xff',
       [], [], [], [], [], [], [], [], []""",
    """2, 'a,b', 'NULL', JSON '"null"', FALSE, CAST('NaN' AS FLOAT64), CAST('inf' AS FLOAT32),
       NUMERIC '-0.000000001', DATE '0001-01-01', TIMESTAMP '0001-01-01 00:00:00 UTC', b'x',
       [1, NULL, 9223372036854775807], ['', NULL, 'a,"b"', 'null', '[]'],
       [JSON '{"a": [1]}', JSON '"x"'], [0.1, NULL, CAST('-inf' AS FLOAT64)], [TRUE, NULL],
       [NUMERIC '12345678901234567890.5'], [DATE '2026-01-31', NULL],
       [TIMESTAMP '2026-11-26 10:00:00.5 UTC'], [b'', NULL, b'\\xff']""",
    """3, 'l1\\nl2\\r\\nl3\\rl4', '"q"', JSON '{"b": [], "a": null, "n": 18446744073709551615}',
       NULL, 1e300, 3.4e38, NULL, NULL, NULL, NULL,
       NULL, ['one'], NULL, NULL, NULL, NULL, NULL, NULL, NULL""",
    """4, ' ü\\u2028', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL""",
    """6, '', '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, b'',
       NULL, [''], [JSON '""'], NULL, NULL, NULL, NULL, NULL, [b'']""",
    """5, '[]', '[]', JSON '[]', NULL, -0.0, 16777216, NULL, NULL, NULL, NULL,
       [0], ['a', 'b'], [JSON '1.5'], [1e20], NULL, NULL, NULL, NULL, NULL""",
)


def error_of(done: Any) -> str:
    """Return the one line that says what is wrong, and the hint behind it."""
    lines = [one for one in done.stderr.splitlines() if one.startswith(("error: ", "hint: "))]
    assert lines, done.stderr
    assert "Traceback" not in done.stderr
    return "\n".join(lines)


# -- SQL


@pytest.mark.parametrize("arguments", [("-",), ()])
@pytest.mark.parametrize("start", [b"", BOM])
def test_sql_from_stdin(spanctl: Spanctl, arguments: tuple[str, ...], start: bytes) -> None:
    """With a hyphen, and without a file where something is piped; a byte order mark is no SQL."""
    text = (start + b"SELECT 7 AS seven;\n-- \xc3\xbc\n").decode()
    done = spanctl("run", "sql", *arguments, "--no-header", stdin=text)
    assert (done.exit_code, done.stdout) == (0, "7\n"), done.stderr


def test_sql_from_a_pipe_of_a_process(child: Callable[..., Ended]) -> None:
    """Another process's stdin is read to its end, and DML works as from a file."""
    sql = "UPDATE accounts SET balance = 3 WHERE id = 'a'; UPDATE accounts SET balance = 4"
    done = child("run", "sql", "-o", "json", stdin=f"{sql} WHERE id = 'b';")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 2


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        ((), "", "there is no SQL statement"),
        (("-",), "-- nothing\n", "there is no SQL statement"),
        (("-", "-e", "SELECT 1"), "SELECT 2", "can't be run together"),
    ],
)
def test_stdin_without_sql(
    spanctl: Spanctl, arguments: tuple[str, ...], stdin: str, words: str
) -> None:
    """It is a usage error, not a wait without end."""
    done = spanctl("run", "sql", *arguments, stdin=stdin)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in error_of(done)


def test_e_wins_over_a_stdin_that_is_there(spanctl: Spanctl) -> None:
    """In a loop of a script, the rest of its input is not taken away; a mark at its start is."""
    done = spanctl("run", "sql", "-e", "\ufeffSELECT 1", "--no-header", stdin="SELECT 2")
    assert (done.exit_code, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("SELECT 1".encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
        ("SELECT 1".encode("utf-16-le"), "iconv -f UTF-16LE -t UTF-8"),
        ("SELECT 'ä'".encode("cp1252"), "iconv -f WINDOWS-1252 -t UTF-8"),
        (gzip.compress(b"SELECT 1", mtime=0), "gunzip -c"),
    ],
)
def test_sql_files_of_other_kinds(
    spanctl: Spanctl, tmp_path: Path, data: bytes, words: str
) -> None:
    """What the file is and the command that mends it are named; nothing runs."""
    path = tmp_path / "q 1.sql"
    path.write_bytes(data)
    done = spanctl("run", "sql", str(path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in error_of(done)
    assert f"'{path}'" in error_of(done)


def test_stdin_in_another_encoding(child: Callable[..., Ended]) -> None:
    """The filter that makes it UTF-8 is named, without a path."""
    done = child("run", "sql", "-", stdin="S\0E\0L\0E\0C\0T\0 \x001\0")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "hint: pipe it through: iconv -f UTF-16LE -t UTF-8\n" in done.stderr


def test_a_sql_file_with_a_byte_order_mark(spanctl: Spanctl, tmp_path: Path) -> None:
    """As editors on Windows save it, and its lines are counted as before."""
    path = tmp_path / "q.sql"
    path.write_bytes(BOM + b"-- saved on Windows\r\nSELECT 1 AS one;\r\nSELEC 2;\r\n")
    assert "line 3" in error_of(spanctl("run", "sql", str(path)))
    path.write_bytes(BOM + b"SELECT 1 AS one;\r\n")
    done = spanctl("run", "sql", str(path), "--no-header")
    assert (done.exit_code, done.stdout) == (0, "1\n"), done.stderr


# -- files to import


def test_stdin_is_no_file_to_import(spanctl: Spanctl) -> None:
    """An import reads its rows twice; the hint says what to do instead."""
    done = spanctl("run", "import", "-", "-t", "accounts", stdin="id,balance\nc,1\n")
    assert done.exit_code == 2
    assert "save the rows in a file first" in error_of(done)


@pytest.fixture
def twice(tmp_path: Path) -> str:
    path = tmp_path / "twice.csv"
    path.write_text("id,balance\nc,1\nd,2\nc,3\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def there(tmp_path: Path) -> str:
    path = tmp_path / "there.csv"
    path.write_text("id,balance\nc,1\na,2\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("which", ["twice", "there"])
def test_a_key_that_is_there_is_a_conflict(
    spanctl: Spanctl,
    terminal: Callable[..., Ended],
    request: pytest.FixtureRequest,
    bank: Bank,
    which: str,
) -> None:
    """Exit 6 with the line; the key itself on a terminal only, and in no document."""
    path = request.getfixturevalue(which)
    line, key = {"twice": (4, "line 4: id = c"), "there": (3, "line 3: id = a")}[which]
    command = ("run", "import", path, "--table", "accounts")
    done = spanctl(*command)
    assert (done.exit_code, done.stdout) == (6, "")
    assert f"line {line}" in error_of(done)
    assert "(id)" in error_of(done)
    assert "--mode insert-absent" in error_of(done)
    assert key not in done.stderr
    document = json.loads(spanctl(*command, "-o", "json").stderr.splitlines()[-1])["error"]
    assert (document["code"], document["details"]["line"]) == ("duplicate_key", line)
    assert key not in json.dumps(document)
    shown = terminal(*command, columns=200)
    assert shown.exit_code == 6
    assert key in shown.stdout
    assert bank.balance("a") == 0


def test_only_absent_rows(spanctl: Spanctl, there: str, bank: Bank) -> None:
    """How many were there is in the result."""
    command = ("run", "import", there, "-t", "accounts", "--mode", "insert-absent", "-o", "json")
    done = spanctl(*command)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["mode"], found["written"], found["skipped"]) == ("insert-absent", 1, 1)
    assert (bank.balance("a"), bank.balance("c")) == (0, 1)


def test_omitted_keys_by_option(spanctl: Spanctl, bank: Bank, tmp_path: Path) -> None:
    """--omitted-null is for JSON Lines, and is refused for a CSV."""
    execute_ddl(bank.target, ["CREATE TABLE o (id INT64, n INT64 DEFAULT (7)) PRIMARY KEY (id)"])
    path = tmp_path / "o.jsonl"
    path.write_text('{"id": 1}\n{"id": 2, "n": 3}\n', encoding="utf-8")
    command = ("run", "import", str(path), "-t", "o", "--mode", "upsert")
    assert spanctl(*command).exit_code == 0
    assert list(bank.database.query("SELECT id, n FROM o ORDER BY id")) == [(1, 7), (2, 3)]
    assert spanctl(*command, "--new", "--omitted-null").exit_code == 0
    assert list(bank.database.query("SELECT id, n FROM o ORDER BY id")) == [(1, None), (2, 3)]
    table = tmp_path / "o.csv"
    table.write_text("id\n3\n", encoding="utf-8")
    done = spanctl("run", "import", str(table), "-t", "o", "--omitted-null")
    assert done.exit_code == 2
    assert "JSON Lines" in error_of(done)


# -- CSV out and in again


@pytest.fixture
def copies(emulator: str, bank: Bank) -> None:
    execute_ddl(bank.target, DDL)
    inserts = [f"INSERT source ({NAMES}) VALUES ({values})" for values in VALUES]  # noqa: S608
    with raw.database(emulator, bank.target.database.database) as google:
        google.run_in_transaction(lambda txn: [txn.execute_update(sql) for sql in inserts])


def test_what_is_empty_is_told_apart_in_csv(spanctl: Spanctl) -> None:
    """NULL is an empty field, an empty array [], JSON's null null, an empty text is quoted."""
    sql = (
        "SELECT 1 AS k, ARRAY<INT64>[] AS a, CAST(NULL AS ARRAY<INT64>) AS b, JSON 'null' AS c,"
        " CAST(NULL AS JSON) AS d, '' AS e, CAST(NULL AS STRING) AS f, JSON '\"\"' AS g,"
        " [''] AS h, ['a', 'b'] AS i, JSON '\"x\"' AS j, [CAST(NULL AS STRING)] AS l"
    )
    done = spanctl("run", "sql", "-e", sql, "-o", "csv", "--no-header")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ('1,[],,null,,"",,"""""","[""""]","[""a"", ""b""]","""x""",[null]\n')


@pytest.mark.usefixtures("copies")
@pytest.mark.parametrize("packed", [False, True])
def test_what_goes_out_comes_back(
    spanctl: Spanctl, bank: Bank, tmp_path: Path, packed: bool
) -> None:
    """Every value of every type is the same after CSV, packed or not."""
    out = spanctl("run", "sql", "-e", "SELECT * FROM source ORDER BY id", "-o", "csv")
    assert out.exit_code == 0, out.stderr
    path = tmp_path / ("out.csv.gz" if packed else "out.csv")
    data = out.stdout_bytes
    path.write_bytes(gzip.compress(data) if packed else data)
    back = spanctl("run", "import", str(path), "-t", "copy", "--quoted-empty")
    assert back.exit_code == 0, back.stderr
    source, copy = (
        [[display(value) for value in row] for row in bank.database.query(sql)]
        for sql in ("SELECT * FROM source ORDER BY id", "SELECT * FROM copy ORDER BY id")
    )
    assert source == copy
    again = spanctl("run", "sql", "-e", "SELECT * FROM copy ORDER BY id", "-o", "csv")
    assert again.stdout_bytes == data
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert [len(row) for row in rows] == [20] * (len(VALUES) + 1)


@pytest.mark.usefixtures("copies")
def test_without_the_option_an_empty_field_is_null(
    spanctl: Spanctl, bank: Bank, tmp_path: Path
) -> None:
    """Where its column may be NULL, quoted or not: as tools that quote all fields write it."""
    path = tmp_path / "out.csv"
    path.write_text('id,s,t,y\n1,"","",""\n2,,,\n', encoding="utf-8")
    assert spanctl("run", "import", str(path), "-t", "copy").exit_code == 0
    rows = [("", None, None), ("", None, None)]
    assert list(bank.database.query("SELECT s, t, y FROM copy ORDER BY id")) == rows
    assert spanctl(*("run", "import", str(path), "-t", "copy", "--mode", "upsert"),
                   "--quoted-empty").exit_code == 0  # fmt: skip
    rows = [("", "", b""), ("", None, None)]
    assert list(bank.database.query("SELECT s, t, y FROM copy ORDER BY id")) == rows
