"""Fields to values: as the table says, or a reason without the value."""

import datetime as dt
import decimal

import pytest

from spanctl.errors import UsageError
from spanctl.flows.converting import OMITTED, Converter, Mode
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


def lines(*given, mode=Mode.INSERT, table=PEOPLE, **options):
    """Convert JSON objects; each row as the columns that it writes."""
    made = Converter(table, tuple(given[0]), mode=mode, file_format=FileFormat.JSONL, **options)
    rows = [zip(made.columns, made.values(one), strict=True) for one in given]
    return [{name: value for name, value in row if value is not OMITTED} for row in rows]


def test_json_values():
    """JSON Lines are read by their own types, null is NULL, names match in any case."""
    given = {"ID": 7, "name": "Ada", "note": None, "tags": ["a"], "size": decimal.Decimal("0.5")}
    assert lines(given) == [{"Id": 7, "name": "Ada", "note": None, "tags": ["a"], "size": 0.5}]
    with pytest.raises(ValueError, match="Id is no whole number; name is NULL"):
        lines({"id": True, "name": None})


def test_a_line_names_its_own_columns():
    """What a line leaves out is not written, and a column may come late; so a DEFAULT applies."""
    first, second, third = {"id": 1, "name": "a", "note": "x"}, {"name": "b", "id": 2}, {"id": 3}
    third |= {"name": "c", "size": 1, "born": None}
    assert lines(first, second, third) == [
        {"Id": 1, "name": "a", "note": "x"},
        {"Id": 2, "name": "b"},
        {"Id": 3, "name": "c", "size": 1.0, "born": None},
    ]
    assert lines({"id": 1}, {"id": 2, "note": "x"}, mode=Mode.UPDATE) == [
        {"Id": 1},
        {"Id": 2, "note": "x"},
    ]


def test_omitted_keys_may_be_null():
    """Asked for, what is left out is NULL where it may be; what may not stays left out."""
    (row,) = lines({"id": 1, "name": "a"}, omitted_null=True)
    assert row == {"Id": 1, "name": "a", "note": None, "born": None, "tags": None, "photo": None}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"id": 2, "name": "a", "nmae": 1}, "has nmae, which People lacks or computes"),
        ({"id": 2, "name": "a", "UPPER": "A"}, "has UPPER, which People lacks or computes"),
        ({"id": 2, "name": "a", "ID": 3}, "names a column twice"),
        ({"id": 2}, "lacks name, which People needs"),
        ({}, "lacks Id, name, which People needs"),
    ],
)
def test_lines_that_do_not_fit_have_their_reason(line, reason):
    """Each line is held against the table, not against the first line."""
    with pytest.raises(ValueError, match=reason):
        lines({"id": 1, "name": "x"}, line)


KEYS = {
    "default": column("k", "STRING(36)", default="GENERATE_UUID()"),
    "identity": column("k", "INT64", identity=True),
    "generated": column("k", "INT64", generated=True),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("file_format", FileFormat)
def test_keys_that_spanner_makes_may_be_left_out(kind, file_format):
    """Rows without them are written without them, and have no key that could be compared."""
    table = Table(name="t", columns=(KEYS[kind], column("n", "INT64")), primary_key=("k",))
    made = Converter(table, ["n"], file_format=file_format)
    row = made.values({"n": 1} if file_format is FileFormat.JSONL else ["1"])
    assert [value for value in row if value is not OMITTED] == [1]
    assert made.key_of(row) is None


def test_part_of_a_key_is_no_key():
    """Rows that differ in the part which Spanner makes are not repeated."""
    columns = (column("a", "INT64"), KEYS["default"])
    table = Table(name="t", columns=columns, primary_key=("a", "k"))
    assert Converter(table, ["a"]).key_of([1]) is None
    assert Converter(table, ["a", "k"]).key_of([1, "x"]) == [1, "x"]
    made = Converter(table, ["a"], file_format=FileFormat.JSONL)
    assert made.key_of(made.values({"a": 1})) is None
    assert made.key_of(made.values({"a": 1, "k": "x"})) == [1, "x"]


def test_a_null_in_a_key_may_be_left_out_by_json():
    """Exports leave NULLs out: of a key, too."""
    table = Table(name="t", columns=(column("a", "INT64"), column("b", "INT64")), primary_key="ab")
    made = Converter(table, ["a"], file_format=FileFormat.JSONL)
    assert made.key_of(made.values({"a": 1})) == [1, None]


@pytest.mark.parametrize("mode", [Mode.INSERT_ABSENT, Mode.UPDATE])
@pytest.mark.parametrize("kind", ["default", "identity"])
def test_what_is_looked_up_needs_its_key(mode, kind):
    """A key that Spanner would make can't be looked up: the file has to name it."""
    table = Table(name="t", columns=(KEYS[kind], column("n", "INT64")), primary_key=("k",))
    with pytest.raises(UsageError, match="lacks k"):
        Converter(table, ["n"], mode=mode)
    with pytest.raises(ValueError, match="lacks k"):
        lines({"n": 1}, mode=mode, table=table)


def test_a_computed_key_cannot_be_looked_up():
    """insert-absent says so; an update is Spanner's to place."""
    columns = (KEYS["generated"], column("a", "INT64"))
    table = Table(name="t", columns=columns, primary_key=("k", "a"))
    with pytest.raises(UsageError, match="Spanner computes k") as caught:
        Converter(table, ["a"], mode=Mode.INSERT_ABSENT)
    assert "--mode insert" in caught.value.hint
    assert Converter(table, ["a"], mode=Mode.UPDATE).columns == ("a",)


def test_a_key_is_shown_to_its_owner():
    """Columns and values, and not without end."""
    columns = (column("a", "STRING(MAX)"), column("b", "INT64"))
    made = Converter(Table(name="t", columns=columns, primary_key=("b", "a")), ["a", "b"])
    assert made.shown(made.key_of(["x", 7])) == "b = 7, a = x"
    assert len(made.shown([7, "x" * 1000])) < 300


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

    def key_of(made, *fields):
        return made.digestible(made.key_of(made.values(fields)))

    key = [key_of(converter, text, "x") for text in ("007", "7", "8")]
    assert key[0] == key[1] != key[2]
    for kind, same, other in [
        ("NUMERIC", ("1.0", "1", "1e0"), "10"),
        ("NUMERIC", ("0", "-0", "-0.0"), "1"),
        ("BYTES(9)", ("AAE=",), "AAI="),
        ("FLOAT64", ("0.0", "-0.0"), "1"),
        (
            "TIMESTAMP",
            ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"),
            "2026-01-01T00:00:00.000000001Z",
        ),
    ]:
        table = Table(name="t", columns=(column("k", kind),), primary_key=("k",))
        made = Converter(table, ["k"])
        assert len({key_of(made, text) for text in same}) == 1
        assert key_of(made, other) != key_of(made, same[0])


def test_keys_of_two_columns_do_not_run_together():
    """('a', 'bc') and ('ab', 'c') are two keys."""
    columns = (column("a", "STRING(9)"), column("b", "STRING(9)"))
    converter = Converter(Table(name="t", columns=columns, primary_key=("a", "b")), ["a", "b"])
    assert converter.digestible(["a", "bc"]) != converter.digestible(["ab", "c"])


def test_the_ledger_is_no_table_to_import_into():
    """Only the protocol writes receipts."""
    table = Table(name="spanctl_receipts", columns=(column("k", "INT64"),), primary_key=("k",))
    with pytest.raises(UsageError, match="belongs to the ledger"):
        Converter(table, ["k"])
