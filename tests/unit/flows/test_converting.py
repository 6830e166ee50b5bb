"""Fields to values: as the table says, or a reason without the value."""

import datetime as dt
import decimal

import pytest

from spanctl.errors import UsageError
from spanctl.flows.converting import Converter, Mode
from spanctl.flows.reading import FileFormat
from spanctl.spanner.catalog import Table
from tests.unit.flows.tables import PEOPLE, column

EARLIEST = "2026-01-01T00:00:00.000000001Z"


def convert(header, fields, **options):
    return Converter(PEOPLE, header, **options).values(fields)


def test_fields_become_values():
    """Each field is read as its column's type; names match in any case."""
    header = ["ID", "Name", "born", "tags", "photo", "size"]
    converter = Converter(PEOPLE, header)
    assert converter.columns == ("Id", "name", "born", "tags", "photo", "size")
    assert converter.values(["7", "Ada", "1815-12-10", '["a", null]', "AAE=", "1.5"]) == [
        7,
        "Ada",
        dt.date(1815, 12, 10),
        ["a", None],
        b"\x00\x01",
        1.5,
    ]


def test_empty_fields():
    """Empty is NULL where the column may be NULL, and the empty string in a NOT NULL STRING."""
    assert convert(["id", "name", "note", "born"], ["1", "", "", ""]) == [1, "", None, None]
    with pytest.raises(ValueError, match="Id is NULL, which its column can't be"):
        convert(["id", "name"], ["", "x"])


def test_null_as_a_text():
    """With a text for NULL, only that text is NULL, and an empty field is an empty string."""
    header = ["id", "name", "note", "born"]
    assert convert(header, ["1", "x", "", r"\N"], null=r"\N") == [1, "x", "", None]
    with pytest.raises(
        ValueError, match="name is NULL, which its column can't be; born is no date"
    ):
        convert(header, ["1", r"\N", "", ""], null=r"\N")


def test_every_bad_column_is_named_and_no_value():
    """One reason tells all that is wrong with a row, and repeats nothing of it."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - looked at below
        convert(
            ["id", "name", "born", "photo", "size"],
            ["secret1", "secret", "secret2", "c2VjcmV0", ""],
        )
    assert str(caught.value) == (
        "Id is no whole number; name has 6 characters, 5 are allowed; born is no date such as"
        " 2026-01-31; photo has 6 bytes, 2 are allowed; size is NULL, which its column can't be"
    )


def test_json_values():
    """JSON Lines are read by their own types, null is NULL."""
    header = ["id", "name", "note", "tags", "size"]
    jsonl = FileFormat.JSONL
    assert convert(header, [7, "Ada", None, ["a"], decimal.Decimal("0.5")], file_format=jsonl) == [
        7,
        "Ada",
        None,
        ["a"],
        0.5,
    ]
    with pytest.raises(ValueError, match="Id is no whole number; name is NULL"):
        convert(header, [True, None, None, [], 1], file_format=jsonl)


@pytest.mark.parametrize(
    ("header", "mode", "message", "hint"),
    [
        (["id", "nmae"], Mode.INSERT, "no column 'nmae'", "did you mean name?"),
        (["id;name"], Mode.INSERT, "no column 'id;name'", "--delimiter"),
        (["id", "zzzzzz"], Mode.INSERT, "no column", "People has: Id, name"),
        (["id", "name", "ID"], Mode.INSERT, "names Id twice", ""),
        (["id", "name", "upper"], Mode.INSERT, "upper of People can't be written", "leave"),
        (["id"], Mode.INSERT, "lacks name", "add"),
        (["id"], Mode.UPSERT, "lacks name", "add"),
        (["name"], Mode.UPDATE, "lacks Id", "add"),
    ],
)
def test_headers_that_do_not_fit_are_refused(header, mode, message, hint):
    """What is wrong with a header is told once, with what to do."""
    with pytest.raises(UsageError) as caught:
        Converter(PEOPLE, header, mode=mode)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_an_update_needs_its_key_only():
    """Columns that are not in the file are left as they are."""
    assert convert(["id", "note"], ["1", "x"], mode=Mode.UPDATE) == [1, "x"]


def test_equal_keys_have_equal_bytes():
    """007 and 7 are one INT64, 1.0 and 1 one NUMERIC, -0.0 and 0.0 one FLOAT64."""
    header = ["id", "name"]
    converter = Converter(PEOPLE, header)
    key = [converter.key(converter.values([text, "x"])) for text in ("007", "7", "8")]
    assert key[0] == key[1] != key[2]
    for kind, same, other in [
        ("NUMERIC", ("1.0", "1", "1e0"), "10"),
        ("FLOAT64", ("0.0", "-0.0"), "1"),
        (
            "TIMESTAMP",
            ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"),
            "2026-01-01T00:00:00.000000001Z",
        ),
    ]:
        table = Table(name="t", columns=(column("k", kind),), primary_key=("k",))
        made = Converter(table, ["k"])
        assert len({made.key(made.values([text])) for text in same}) == 1
        assert made.key(made.values([other])) != made.key(made.values([same[0]]))


def test_keys_of_two_columns_do_not_run_together():
    """('a', 'bc') and ('ab', 'c') are two keys."""
    columns = (column("a", "STRING(9)"), column("b", "STRING(9)"))
    converter = Converter(Table(name="t", columns=columns, primary_key=("a", "b")), ["a", "b"])
    assert converter.key(["a", "bc"]) != converter.key(["ab", "c"])


def test_the_ledger_is_no_table_to_import_into():
    """Only the protocol writes receipts."""
    table = Table(name="spanctl_receipts", columns=(column("k", "INT64"),), primary_key=("k",))
    with pytest.raises(UsageError, match="belongs to the ledger"):
        Converter(table, ["k"])
