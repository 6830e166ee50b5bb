"""Every format at every width, byte for byte: what changes for people and scripts is seen here."""

import csv
import io
import json

import pytest
from rich.cells import cell_len

from tests.golden.cases import FOLDER, IDS, files

FILES = dict(files())
MEANT = "if that is meant, run: python -m tests.golden"


@pytest.mark.parametrize("name", sorted(FILES))
def test_output_is_what_it_was(name: str) -> None:
    """The bytes are those of the golden file."""
    expected = (FOLDER / name).read_bytes().decode()
    assert FILES[name] == expected, MEANT


def test_no_golden_file_is_left_over() -> None:
    """Each file is one that is still drawn."""
    found = {str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*") if path.suffix != ".pyc"}
    assert found == set(FILES), MEANT


@pytest.mark.parametrize("name", [name for name in sorted(FILES) if "terminal-" in name])
def test_no_table_is_wider_than_its_terminal_and_no_id_is_cut(name: str) -> None:
    """Where a table doesn't fit there are blocks, whose long values wrap by themselves."""
    text = FILES[name]
    width = int(name.split("terminal-")[1].partition("-")[0])
    if name.startswith("transactions/"):
        assert all(txn_id in text for txn_id in IDS)
        if width == 200 and name.endswith("table.txt"):
            assert max(map(cell_len, text.splitlines())) <= width
    if not name.endswith(".ansi"):
        assert "\x1b" not in text


def test_the_golden_files_of_programs_parse() -> None:
    """What is frozen is JSON and CSV, and no row is lost."""
    for name, text in FILES.items():
        if name.endswith(".json"):
            assert json.loads(text)["schema"].startswith("spanctl.")
        elif name.endswith(".jsonl"):
            schemas = [json.loads(line)["schema"] for line in text.splitlines()]
            assert len(schemas) == {"transactions": 3, "nothing": 0}.get(name.partition("/")[0], 1)
        elif name.endswith(".csv"):
            widths = {len(row) for row in csv.reader(io.StringIO(text))}
            assert len(widths) == 1, name
        elif name.endswith(".tsv") and name.startswith("transactions/"):
            assert len(text.splitlines()) == (3 if "no-header" in name else 4)
