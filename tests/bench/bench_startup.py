"""How long a person waits for ``spanctl --help``."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Figure, interleaved

_OURS = (sys.executable, "-c", "from spanctl_cli.main import main; main()", "--help")
_TYPER = (sys.executable, "-c", "import typer")
_PREFECT = (sys.executable, "-c", "from prefect.cli import app; app()", "--help")


def figures(rounds: int = 15) -> Iterator[Figure]:
    """Yield our help against the import of typer alone, and against Prefect's help."""
    commands = (_installed("spanctl", _OURS), _TYPER, _installed("prefect", _PREFECT))
    sides = [lambda command=command: _run(command) for command in commands]
    ours, typer, prefect = interleaved(sides, rounds=rounds, warm_up=2)
    yield Figure(
        name="spanctl --help, against import typer",
        unit="ms",
        ours=ours,
        theirs=typer,
        against='python -c "import typer"',
        goal=2.5,
    )
    yield Figure(
        name="spanctl --help, against prefect --help",
        unit="ms",
        ours=ours,
        theirs=prefect,
        against="prefect --help",
        goal=round(1 / 7, 3),
    )


def _installed(name: str, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    script = Path(sys.executable).with_name(name)
    return (str(script), "--help") if script.exists() else otherwise


def _run(command: tuple[str, ...]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
