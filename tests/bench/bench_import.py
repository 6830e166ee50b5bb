"""Rows a second and peak memory of an import, against the best loop around Google's client.

Both sides read the same CSV and write the same typed table, watched by the same change stream, on
the same emulator, each import into a new database with the ledger installed. Ours validates the
whole file first, writes leases and receipts, and is a Prefect flow against a real server: its rate
is told both without and with what Prefect takes to start and to end a flow run (a second or so,
whatever the file's size).
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from spanctl.spanner import schema
from spanctl.spanner.client import Database
from tests.bench.measure import Figure, Sample
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT, Emulator
from tests.fixtures.prefect import server

_DDL = """CREATE TABLE airports (
  icao STRING(8) NOT NULL, iata STRING(8), name STRING(MAX), city STRING(MAX), subd STRING(MAX),
  country STRING(2), elevation FLOAT64, lat FLOAT64, lon FLOAT64, tz STRING(MAX), lid STRING(16),
) PRIMARY KEY (icao)"""
_FLOATS = {"elevation", "lat", "lon"}
_CHUNKS = (100, 200, 500)
_ROUNDS = 3
_GOAL = 0.8
_FLAT = 1.2


def figures() -> Iterator[Figure]:
    """Yield throughput at the raw loop's best chunk, then peak memory at 1 and 10 times."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Emulator() as emulator,
        server(Path(folder)) as api,
    ):
        once = _airports()
        ours: list[dict[str, float]] = []
        theirs: dict[int, list[float]] = {chunk: [] for chunk in _CHUNKS}
        for _ in range(_ROUNDS):
            for chunk in _CHUNKS:
                theirs[chunk].append(_raw(emulator.address, once, chunk))
            ours.append(_import(emulator.address, once, api))
        best = max(theirs, key=lambda chunk: sorted(theirs[chunk])[len(theirs[chunk]) // 2])
        for name, seconds, goal in (
            ("import of 28,000 airports, a whole flow run", "run_seconds", _GOAL),
            ("the same, without the flow run's start and end", "seconds", None),
        ):
            yield Figure(
                name=name,
                unit="rows/s",
                ours=Sample(tuple(one["rows"] / one[seconds] for one in ours)),
                theirs=Sample(tuple(theirs[best])),
                against=f"csv.reader + database.batch(), {best} rows a commit, best of {_CHUNKS}",
                goal=goal,
                at_least=True,
            )
        tenfold = _import(emulator.address, _repeated(once, Path(folder)), api)
        yield Figure(
            name="peak memory of an import, 10 times the file",
            unit="MiB",
            ours=Sample((tenfold["peak_mib"],)),
            theirs=Sample(tuple(one["peak_mib"] for one in ours)),
            against="spanctl, the file once",
            goal=_FLAT,
        )


def _airports() -> Path:
    import airportsdata

    return Path(airportsdata.__file__).with_name("airports.csv")


def _repeated(path: Path, folder: Path, times: int = 10) -> Path:
    """Write the file's rows several times, each time under other keys."""
    target = folder / "airports-10.csv"
    with path.open(newline="") as source, target.open("w", newline="") as sink:
        header, *rows = csv.reader(source)
        writer = csv.writer(sink)
        writer.writerow(header)
        for number in range(times):
            writer.writerows([f"{row[0]}-{number}", *row[1:]] for row in rows)
    return target


def _new_database(address: str) -> str:
    name = raw.create_database(address, [_DDL])
    with Database(raw.target(address, name)) as database:
        schema.install(database, ["airports"])
    return name


def _raw(address: str, path: Path, chunk: int) -> float:
    """Import as one would by hand, and return rows a second."""
    name = _new_database(address)
    with raw.database(address, name, checked=False) as database, path.open(newline="") as stream:
        with database.snapshot() as snapshot:
            list(snapshot.execute_sql("SELECT 1"))
        began = time.perf_counter()
        reader = csv.reader(stream)
        columns = next(reader)
        floats = [column in _FLOATS for column in columns]
        rows, total = [], 0
        for record in reader:
            rows.append(
                [
                    (float(text) if text else None) if number else text
                    for text, number in zip(record, floats, strict=True)
                ]
            )
            if len(rows) == chunk:
                total += _insert(database, columns, rows)
                rows = []
        total += _insert(database, columns, rows)
        seconds = time.perf_counter() - began
    raw.drop_database(address, name)
    return total / seconds


def _insert(database: object, columns: list[str], rows: list[list[object]]) -> int:
    with database.batch() as batch:  # type: ignore[attr-defined]
        batch.insert("airports", columns, rows)
    return len(rows)


def _import(address: str, path: Path, api: str) -> dict[str, float]:
    name = _new_database(address)
    environment = {
        **os.environ,
        "SPANNER_EMULATOR_HOST": address,
        "SPANCTL_PROJECT": PROJECT,
        "SPANCTL_INSTANCE": INSTANCE,
        "SPANCTL_DATABASE": name,
        "PREFECT_API_URL": api,
        "PREFECT_LOGGING_LEVEL": "ERROR",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.import_once", str(path), "airports"],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    counted = raw.rows(address, name, "SELECT COUNT(*) FROM airports")[0][0]
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if counted != told["rows"]:
        msg = f"{told['rows']} rows were reported and {counted} are there"
        raise AssertionError(msg)
    raw.drop_database(address, name)
    return told
