"""Records of files: every line accounted for, every bad one told, reading from any mark."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import tempfile
from types import SimpleNamespace

import pytest

from spanctl.errors import ConfigurationError, ConflictError, NotFoundError, UsageError
from spanctl.flows import rowfile
from spanctl.flows.reading import EMPTY_TEXT, FileFormat, Mark, Source


@pytest.fixture
def written(tmp_path):
    def write(data, name="f.csv"):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def told(path, **options):
    with Source(path, **options) as source:
        return [(one.line, one.fields, one.reason) for one in source.records()]


def header(path, **options):
    with Source(path, **options) as source:
        return source.columns


def test_records_know_their_physical_lines(written):
    """Quoted newlines, blank lines and both line ends leave the line numbers right."""
    path = written('a,b\r\n1,"x\r\ny"\r\n\r\n2,""\n"3\n\n",z')
    assert told(path) == [
        (2, ["1", "x\r\ny"], ""),
        (5, ["2", ""], ""),
        (6, ["3\n\n", "z"], ""),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_empty_line_of_one_column_is_a_row(written, end):
    """So ``-o csv`` writes NULL; where there are more columns, it is nothing."""
    path = written(end.join(["v", "", "x", '""', "", ""]))
    assert told(path) == [(2, [""], ""), (3, ["x"], ""), (4, [""], ""), (5, [""], "")]
    with Source(path, quoted_empty=True) as source:
        told_apart = [one.fields[0] is EMPTY_TEXT for one in source.records()]
    assert told_apart == [False, False, True, False]


@pytest.mark.parametrize(
    ("rows", "torn", "lines"),
    [
        ('1,"x\n2,y\n3,z\n', True, ("lines 2 to 4", "line 2 opens", "never closed")),
        ('1,"x\n2,y\n3,"\n4,"z"\n', False, ()),  # a record as any other
        ('1,"x\n2,y\n3,",z\n4,w\n', True, ("lines 2 to 4", "line 2 opens", "has 3 fields")),
        ('1,"x\n2,"y"\n', True, ("lines 2 to 3", "line 2 opens", "no CSV record")),
        ('1,"ok\nok","x""\ny\n2,z\n', True, ("lines 2 to 5", "line 3 opens", "never closed")),
        ('1,"x', False, ()),
        ("1,2,3\n", False, ()),
    ],
)
def test_a_quotation_that_takes_in_other_lines(written, rows, torn, lines):
    """Such lines are more than one bad record; the line that opens the quotation is named."""
    with Source(written("a,b\n" + rows)) as source:
        first = next(source.records())
        assert first.torn is torn
        message = source.torn(first).message
    assert all(part in message for part in lines), message


def test_a_record_s_bytes_can_be_shown(written):
    """The place in bytes is that of the record, whatever the characters before it."""
    path = written('ä,b\n"ü\n",1\nx,2\n')
    with Source(path) as source:
        assert [source.raw(one).decode() for one in source.records()] == ['"ü\n",1', "x,2"]


def test_reading_begins_at_any_mark(written):
    """From the mark of any record on, the same records come, with the same lines."""
    path = written("a,b\n" + "".join(f'{n},"l\n{n}"\n' for n in range(50)))
    with Source(path) as source:
        everything = list(source.records())
        for place in (0, 1, 17, 49):
            mark = Mark(everything[place].start, everything[place].line)
            assert list(source.records(mark)) == everything[place:]


def test_a_byte_order_mark_is_no_part_of_the_header(written):
    """A file saved by a spreadsheet has its first column's name intact."""
    assert header(written(b"\xef\xbb\xbfa,b\n1,2\n")) == ("a", "b")
    assert header(written(b'\xef\xbb\xbf{"a": 1}\n', "f.jsonl")) == ("a",)


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (b"a,b\n1,2\n3\n", 3, "has 1 fields, the header has 2"),
        (b"a,b\n1,2,3\n", 2, "has 3 fields"),
        (b"a,b\n\xff,2\n", 2, "is not UTF-8"),
        (b'a,b\n1,"x\n2,3\n', 2, "begins a quotation that is never closed"),
        (b'a,b\n1,"x"y\n', 2, "is no CSV record"),
        (b"a,b\n1,2\r3,4\n", 2, "bare carriage return"),
    ],
)
def test_bad_records_are_told_with_their_line(written, data, line, reason):
    """What is no record of the file has a reason, and doesn't end the reading."""
    bad = [one for one in told(written(data + b"8,9\n")) if one[1] is None]
    assert bad[0][0] == line
    assert reason in bad[0][2]


def test_reading_goes_on_after_a_bad_record(written):
    """The lines after a bad one come with their right numbers."""
    path = written(b"a,b\n\xff,1\n2,3\nx\n4,5\n")
    assert [(line, fields) for line, fields, _ in told(path)] == [
        (2, None),
        (3, ["2", "3"]),
        (4, None),
        (5, ["4", "5"]),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "|", "]", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_quoted_empty_fields_are_told_apart(written, delimiter, end):
    """Where asked for, by what is around them; quotation marks inside of text don't count."""
    fields = ['""', "", '"a"""', '""""', '",""|;\n"""', "x", '""', '"é"', ""]
    path = written(delimiter.join("abcdefghi") + "\n" + delimiter.join(fields) + end)
    (record,) = told(path, delimiter=delimiter, quoted_empty=True)
    got = [one is EMPTY_TEXT for one in record[1]]
    assert got == [one == '""' for one in fields]
    (plain,) = told(path, delimiter=delimiter)
    assert plain[1] == record[1] == ["", "", 'a"', '"', ',"|;\n"', "x", "", "é", ""]
    assert not any(one is EMPTY_TEXT for one in plain[1])


def test_json_lines_come_as_objects(written):
    """Each line has its own keys in its own order; blank lines don't matter."""
    path = written('{"a": 1, "b": "x"}\n\n{"b": null, "a": 2}\n{"c": 3}\n', "f.jsonl")
    assert told(path) == [
        (1, {"a": 1, "b": "x"}, ""),
        (3, {"b": None, "a": 2}, ""),
        (4, {"c": 3}, ""),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "is no JSON object"),
        ('{"a": 1', "is no JSON at character"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": {"b": 1, "b": 2}}', "twice"),
        ('{"a": [{"b": [{"c": 1, "c": 1}]}]}', "twice"),
        ("[" * 100_000, "nested"),
    ],
)
def test_bad_json_lines_are_told(written, line, reason):
    """What is no JSON object has a reason, and doesn't end the reading."""
    found = told(written(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n', "f.jsonl"))
    assert reason in found[1][2]
    assert found[2] == (3, {"a": 2}, "")


def test_numbers_of_json_are_exact(written):
    """A NUMERIC with more digits than a float holds comes through."""
    path = written('{"a": 0.12345678901234567890123}\n', "f.jsonl")
    assert str(told(path)[0][1]["a"]) == "0.12345678901234567890123"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.csv.gz"])
def test_other_encodings_are_named_with_their_remedy(written, encoding, name):
    """The command that makes it UTF-8 stands in the hint, and does what it says."""
    text = 'id,name\n1,"ä"\n'
    data = text.encode(encoding)
    path = written(gzip.compress(data) if name.endswith("gz") else data, name)
    with pytest.raises(UsageError, match=r"is UTF-(16|32)(LE|BE)?, not UTF-8") as caught:
        Source(path)
    command = caught.value.hint.removeprefix("run: ").replace("NEW", str(path.with_name("n.csv")))
    subprocess.run(["/bin/sh", "-c", command], check=True)
    assert told(path.with_name("n.csv")) == [(2, ["1", "ä"], "")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("id,n\n1,ä\n".encode("cp1252"), None),
        ("id,ä\n1,2\n".encode("cp1252"), "is not UTF-8"),
        (bz2.compress(b"a\n1\n"), "packed by bzip2"),
        (lzma.compress(b"a\n1\n"), "packed by xz"),
        (b"\x28\xb5\x2f\xfd....", "packed by zstd"),
        (b"PK\x03\x04....", "a ZIP archive or a spreadsheet"),
        (b"PAR1....", "a Parquet file"),
    ],
)
def test_what_is_no_text_is_named(written, data, message):
    """What a file is stands in the error, and what to do in its hint."""
    path = written(data)
    if message is None:
        assert told(path) == [(2, None, "is not UTF-8")]
        return
    with pytest.raises(UsageError, match=message) as caught:
        Source(path)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["f.csv.gz", "f.csv", "f.CSV.GZ"])
def test_packed_files_are_read(written, name):
    """By its first bytes, not by its name; offsets, marks, digest and size are its text's."""
    text = b"\xef\xbb\xbfa,b\n" + b"".join(b'%d,"l\n%d"\n' % (n, n) for n in range(500))
    plain, packed = written(text, "plain.csv"), written(gzip.compress(text), name)
    with Source(plain) as one, Source(packed) as other:
        assert (other.sha256, other.size, other.columns) == (one.sha256, one.size, ("a", "b"))
        everything = list(other.records())
        assert everything == list(one.records())
        mark = Mark(everything[400].start, everything[400].line)
        assert list(other.records(mark)) == everything[400:]
        assert other.raw(everything[7]) == b'7,"l\n7"'
        other.refuse_change()
    with Source(packed, digested=False) as look:
        assert (look.columns, look.sha256) == (("a", "b"), "")


def test_packed_parts_one_after_the_other_are_one_file(written):
    """As gunzip reads them."""
    path = written(gzip.compress(b"a\n1\n") + gzip.compress(b"2\n"), "f.csv.gz")
    assert [fields for _, fields, _ in told(path)] == [["1"], ["2"]]


@pytest.mark.parametrize("digested", [True, False])
@pytest.mark.parametrize("cut", [-1, -9, 20, 6])
def test_a_damaged_packed_file_is_refused(written, cut, digested):
    """Part of the rows is not all of them."""
    path = written(gzip.compress(os.urandom(99_999).hex().encode())[:cut], "f.csv.gz")
    with pytest.raises(UsageError, match="is damaged"), Source(path, digested=digested) as source:
        list(source.records())


@pytest.mark.parametrize(("free", "fits"), [(32 << 20, False), (1 << 40, True)])
def test_a_packed_file_fills_no_disk(written, monkeypatch, free, fits):
    """A bomb of kilobytes is stopped at half of the room; with more, it is a file as any other."""
    monkeypatch.setattr(rowfile.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    kept = []

    class Room:
        def __init__(self, **options):
            self.file = temporary(**options)
            kept.append(self)

        def write(self, part):
            self.size = self.file.tell() + len(part)
            return self.file.write(part)

        def __getattr__(self, name):
            return getattr(self.file, name)

    temporary = tempfile.TemporaryFile
    monkeypatch.setattr(rowfile.tempfile, "TemporaryFile", Room)
    path = written(gzip.compress(b"a,b\n" + b"1,2\n" * (5 << 20)), "f.csv.gz")
    assert path.stat().st_size < 100_000
    if fits:
        assert header(path) == ("a", "b")
    else:
        with pytest.raises(ConfigurationError, match="has more than 16 MiB, half of the room"):
            header(path)
        assert kept[0].closed
    assert (kept[0].size <= 17 << 20) is not fits


def test_a_file_that_was_packed_twice_is_named(written):
    """Before any of it is unpacked, with the command that unpacks it."""
    twice = gzip.compress(gzip.compress(b"a,b\n1,2\n"))
    with pytest.raises(UsageError, match="is packed by gzip twice") as refused:
        header(written(twice, "f.csv.gz"))
    assert "| gunzip -c > NEW" in refused.value.hint


def test_many_empty_members_are_none(written):
    """They cost time, and neither memory nor a level of recursion each."""
    path = written(gzip.compress(b"a\n1\n") + gzip.compress(b"") * 5_000, "f.csv.gz")
    assert [fields for _, fields, _ in told(path)] == [["1"]]


@pytest.mark.parametrize("name", ["f.tsv.gz", "f.jsonl.gz"])
def test_the_name_under_gz_tells_the_format(written, name):
    """A .tsv.gz has tabs, a .jsonl.gz JSON."""
    text = b"a\tb\n1\t2\n" if "tsv" in name else b'{"a": 1, "b": 2}\n'
    assert header(written(gzip.compress(text), name)) == ("a", "b")


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"", "f.csv"), (b"\n\n", "f.csv"), (b"", "f.jsonl"), (b"\xff\xfea\x00", "f.csv")],
)
def test_a_file_without_a_header_is_refused(written, data, name):
    """An empty file, or one in another encoding, is a usage error."""
    with pytest.raises(UsageError):
        Source(written(data, name))


def test_files_that_cannot_be_read_are_refused(tmp_path, written):
    """A missing file, a folder, a pipe, an unknown format: each is told apart."""
    with pytest.raises(NotFoundError, match=r"no file .*gone\.csv"):
        Source(tmp_path / "gone.csv")
    with pytest.raises(UsageError, match="no regular file"):
        Source(tmp_path, file_format=FileFormat.CSV)
    with pytest.raises(UsageError, match=r"neither \.csv nor \.jsonl"):
        Source(written("a\n", "f.xlsx"))
    with pytest.raises(UsageError, match="between fields"):
        Source(written("a\n"), delimiter=";;")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("f.csv.bz2", bz2.compress(b"a\n1\n"), "is packed by bzip2"),
        ("f.csv.xz", lzma.compress(b"a\n1\n"), "is packed by xz"),
        ("f.csv.zst", b"\x28\xb5\x2f\xfd\0", "is packed by zstd"),
        ("f.zip", b"PK\3\4\0", "is a ZIP archive"),
        ("f.parquet", b"PAR1\0", "is a Parquet file"),
        ("f.avro", b"Obj\1\0", "is an Avro file"),
    ],
)
def test_what_is_no_text_is_told_whatever_its_name(written, name, data, words):
    """With a command that helps, not with a name that wouldn't."""
    with pytest.raises(UsageError, match=words) as caught:
        Source(written(data, name))
    assert "rename" not in caught.value.hint


def test_delimiters(written):
    """A .tsv is separated by tabs, another file by what is asked for."""
    assert header(written("a\tb\n", "f.tsv")) == ("a", "b")
    assert header(written("a;b\n"), delimiter=";") == ("a", "b")


def test_a_change_of_the_file_is_noticed(written):
    """A file that is written to while it is open is refused."""
    path = written("a\n1\n")
    with Source(path) as source:
        source.refuse_change()
        path.write_text("a\n1\n2\n")
        with pytest.raises(ConflictError, match="changed"):
            source.refuse_change()


def test_a_line_without_end_is_refused_in_bounded_memory(written, monkeypatch):
    """A line longer than the limit is one bad record; what follows is read."""
    monkeypatch.setattr("spanctl.flows.reading._LONGEST_LINE", 100)
    path = written("a\n" + "x" * 1000 + "\ny\n")
    assert [(line, fields) for line, fields, _ in told(path)] == [(2, None), (3, ["y"])]


def test_large_fields_are_read(written):
    """A field of the size that a STRING may have is read."""
    value = "é" * 2_000_000
    assert told(written(f"a,b\n1,{value}\n"))[0][1] == ["1", value]
    path = written(json.dumps({"a": value}) + "\n", "f.jsonl")
    assert told(path)[0][1] == {"a": value}
