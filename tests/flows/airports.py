"""The airports of the world: the real input of the import's tests."""

from pathlib import Path

import airportsdata

CSV = Path(airportsdata.__file__).with_name("airports.csv")
DDL = """CREATE TABLE airports (
  icao STRING(8) NOT NULL, iata STRING(3), name STRING(MAX), city STRING(MAX), subd STRING(MAX),
  country STRING(2), elevation FLOAT64, lat FLOAT64, lon FLOAT64, tz STRING(MAX), lid STRING(MAX)
) PRIMARY KEY (icao)"""

CHILD = """
import sys
from spanctl.flows import importing, importprogress
def tell(progress):
    if progress.phase is importing.Phase.WRITING:
        print(progress.rows, flush=True)
importprogress.INTERVAL = 0.0
with importing.reporting(tell):
    importing.import_file(sys.argv[1], "airports")
"""
"""A process that imports a file, and prints the rows that are in after each chunk."""


def head(path: Path, rows: int) -> Path:
    """Write the first rows of the airports to a file, and return it."""
    with CSV.open("rb") as source, path.open("wb") as target:
        target.writelines(line for _, line in zip(range(rows + 1), source, strict=False))
    return path
