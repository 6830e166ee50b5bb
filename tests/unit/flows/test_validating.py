"""Whole files: cut alike every time, bad rows named in a file of their own."""

import csv
import gzip
import json
import stat

import pytest

from spanctl.errors import ConfigurationError, ConflictError, UsageError
from spanctl.flows import cutting, duplicates
from spanctl.flows.converting import Converter, Mode
from spanctl.flows.cutting import Marks, cut, rows_per_chunk
from spanctl.flows.importplan import ImportPlan
from spanctl.flows.reading import Source
from spanctl.flows.validating import validate
from spanctl.spanner import limits
from tests.unit.flows.tables import PEOPLE


def checked(path, mode=Mode.INSERT, rows=3, **options):
    with Source(path) as source:
        converter = Converter(PEOPLE, source.columns, mode=mode, file_format=source.format)
        return validate(source, converter, mode=mode, rows=rows, **options)


@pytest.fixture
def people(tmp_path):
    def write(lines, name="people.csv"):
        path = tmp_path / name
        path.write_text("\n".join(["id,name,note", *lines]) + "\n")
        return path

    return write


def test_a_good_file_leaves_no_rejects(people):
    """Rows and chunks are counted, and nothing is written beside the file."""
    path = people([f"{n},x,y" for n in range(10)])
    found = checked(path)
    assert (found.rows, found.bad, found.chunks, found.rejects) == (10, 0, 4, None)
    assert [one.name for one in path.parent.iterdir()] == ["people.csv"]


def test_bad_rows_are_named_in_a_file_of_the_owner(people):
    """Each bad row has its line, its reason and its text; only the owner may read them."""
    path = people(["1,a,", "x,b,", '2,"toolong\n",', "3,c", "1,d,"])
    found = checked(path)
    assert (found.rows, found.bad, found.first_bad) == (5, 4, "line 3: Id is no whole number")
    assert found.rejects == path.with_name("people.rejects.csv")
    assert stat.S_IMODE(found.rejects.stat().st_mode) == 0o600
    with found.rejects.open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["line", "reason", "record"],
            ["3", "Id is no whole number", "x,b,"],
            ["4", "name has 8 characters, 5 are allowed", '2,"toolong\n",'],
            ["6", "has 2 fields, the header has 3", "3,c"],
            ["7", "has the same primary key (Id) as line 2", "1,d,"],
        ]
    assert 7 in found.repeated
    assert 2 not in found.repeated


def test_lines_that_a_quotation_took_in_are_no_bad_row(people):
    """The file is refused, however many bad rows may be left out."""
    path = people(["1,a,", '2,"b,', *(f"{n},c," for n in range(3, 400))])
    with pytest.raises(UsageError, match="line 3 opens") as refused:
        checked(path)
    assert refused.value.details["line"] == 3
    assert "--skip-bad leaves out no such lines" in refused.value.hint


def test_rejects_of_json_lines(tmp_path):
    """They are JSON Lines too, with the raw line kept whole."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": 1, "name": "a"}\n{"id": "x", "name": "b"}\n')
    found = checked(path)
    assert [json.loads(line) for line in found.rejects.read_text().splitlines()] == [
        {"line": 2, "reason": "Id is no whole number", "record": '{"id": "x", "name": "b"}'}
    ]


@pytest.mark.parametrize("there", ["", "line,reason,record\n9,old,x\n"])
def test_old_rejects_are_replaced(people, there):
    """Those of an earlier check, and an empty file, make room for the new ones."""
    path = people(["x,a,"])
    path.with_name("people.rejects.csv").write_text(there)
    assert checked(path).rejects.read_text().splitlines()[1:] == ['2,Id is no whole number,"x,a,"']


@pytest.mark.parametrize("there", ["mine", "line,reason,record,more\n", "line,reason,recor"])
@pytest.mark.parametrize("line", ["x,a,", "1,a,"])
def test_what_is_no_file_of_bad_rows_is_kept(people, there, line):
    """It is refused before the first row is looked at, whether rows are bad or not."""
    path, told = people([line]), []
    theirs = path.with_name("people.rejects.csv")
    theirs.write_text(there)
    with pytest.raises(ConflictError, match="no file of bad rows") as caught:
        checked(path, progress=lambda *done: told.append(done))
    assert "--rejects PATH" in caught.value.hint
    assert (theirs.read_text(), told) == (there, [])


@pytest.mark.parametrize("make", ["link", "folder", "itself"])
def test_rejects_in_an_odd_place(people, tmp_path, make):
    """A link, a folder and the imported file itself are none, and stay as they are."""
    path, place = people(["x,a,"]), tmp_path / "place"
    victim = tmp_path / "victim"
    victim.write_text("line,reason,record\n")
    if make == "link":
        place.symlink_to(victim)
    elif make == "folder":
        place.mkdir()
    else:
        place = path
    with pytest.raises(ConflictError):
        checked(path, rejects=place)
    assert place.is_symlink() or place.is_dir() or place.read_text().endswith("x,a,\n")
    assert victim.read_text() == "line,reason,record\n"


def test_old_rejects_of_json_lines_are_replaced(tmp_path):
    """Ours are known by their first line; other JSON Lines are kept."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "x", "name": "b"}\n')
    assert checked(path).rejects == checked(path).rejects
    path.with_name("p.rejects.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(ConflictError):
        checked(path)


def test_rejects_that_cannot_be_written_are_an_error(people, tmp_path):
    """The bad row is told all the same."""
    with pytest.raises(ConfigurationError) as caught:
        checked(people(["x,a,"]), rejects=tmp_path / "no" / "such")
    assert "line 2" in caught.value.hint


def test_packed_files_have_their_rejects_beside_them(people):
    """Named after the file that is packed."""
    path = people(["x,a,"])
    packed = path.with_name("people.csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    found = checked(packed)
    assert found.rejects == path.with_name("people.rejects.csv")
    assert found.rejects.read_text().splitlines()[1:] == ['2,Id is no whole number,"x,a,"']


@pytest.mark.parametrize("mode", [Mode.UPSERT, Mode.UPDATE, Mode.INSERT_ABSENT])
def test_a_key_may_come_twice_where_one_of_them_wins(people, mode):
    """Only an insert refuses a repeated key."""
    assert checked(people(["1,a,", "1,b,"]), mode).bad == 0


def test_repeated_keys_are_found_on_disk(people, monkeypatch):
    """However many rows there are, every repetition is found, and the first line named."""
    monkeypatch.setattr(duplicates, "_FLUSH", 2 * duplicates._ENTRY.size)  # noqa: SLF001 - spill early
    count = 3_000
    path = people([f"{n % count},x," for n in range(2 * count)])
    found = checked(path, rows=500)
    assert found.bad == count
    with found.rejects.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["line"]) for row in rows] == list(range(count + 2, 2 * count + 2))
    assert all(int(row["reason"].split()[-1]) == int(row["line"]) - count for row in rows)


def test_the_same_file_is_cut_alike_from_every_mark(people):
    """From the mark before any chunk, the chunks that follow are the very same."""
    path = people([f"{n},x,{'y' * (n % 50)}" for n in range(200)])
    with Source(path) as source:
        chunks = list(cut(source.records(), 7, size=300))
        assert [one for chunk in chunks for one in chunk.records] == list(source.records())
        assert {len(chunk.records) for chunk in chunks} >= {7, 6}
        marks = Marks()
        for chunk in chunks:
            marks.add(chunk)
        for wanted in range(len(chunks)):
            number, mark = marks.before(wanted)
            assert number <= wanted
            again = list(cut(source.records(mark), 7, first=number, size=300))
            assert again == chunks[number:]


def test_marks_of_a_large_file_stay_few():
    """A plan fits into a receipt whatever the number of chunks, and survives JSON."""
    from spanctl.flows.cutting import Chunk
    from spanctl.flows.reading import Record
    from spanctl.ledger.canonical import result_json

    marks = Marks()
    count = 100_000
    for number in range(count):
        start = number * 10**9
        marks.add(Chunk(number, [Record(number * 10**6 + 2, start, start + 1, [])]))
    plan = ImportPlan(rows=10**12, bad=0, chunks=count, chunk_rows=200, marks=marks)
    again = ImportPlan.from_json(json.loads(result_json(plan.to_json())))
    assert again == plan
    for number in (0, 1, 12_345, count - 1):
        marked, mark = again.marks.before(number)
        assert mark is not None
        assert marked <= number < marked + again.marks.stride
        assert mark.offset == marked * 10**9


def test_chunks_stay_below_the_limit_of_mutations():
    """Columns and index entries count; what doesn't fit into a commit is refused."""
    assert limits.most(PEOPLE, ["Id", "name"]) == 2 + 2 * 3
    assert rows_per_chunk(PEOPLE, ["Id", "name"]) == cutting.DEFAULT_ROWS
    assert rows_per_chunk(PEOPLE, ["Id", "name"], 9_000) == 9_000
    for wanted in (0, 10_000):
        with pytest.raises(UsageError, match="a commit takes 1 to 9,975 rows"):
            rows_per_chunk(PEOPLE, ["Id", "name"], wanted)
