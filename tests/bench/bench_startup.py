"""How long a person waits for ``spanctl --help``, and for the answer to a TAB."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from spanctl.settings import resolve
from spanctl_cli.completing.cache import Cache
from tests.bench.measure import Figure, interleaved

_OURS = (sys.executable, "-c", "from spanctl_cli.main import main; main()", "--help")
_RUNS = 200
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

    with tempfile.TemporaryDirectory(prefix="spanctl-bench-") as home:
        environment = _known(Path(home))
        (pressed,) = interleaved([lambda: _press(environment)], rounds=rounds, warm_up=2)
    name = f"TAB after spanctl runs show, {_RUNS} names cached"
    yield Figure(name=name, unit="ms", ours=pressed, goal=150)


def _known(home: Path) -> dict[str, str]:
    """Return the environment of a shell whose context has a fresh cache."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SPANCTL_")}
    places = {**kept, "SPANCTL_CONFIG_HOME": str(home), "SPANCTL_STATE_HOME": str(home)}
    settings = resolve(environ=places)
    path = home / "completion" / Cache.of(settings).path.name
    Cache(path, None).write({"flow_runs": [(f"run-{n}", "") for n in range(_RUNS)]})
    typed = {"_SPANCTL_COMPLETE": "bash", "_SPANCTL_LINE": "spanctl runs show run-1"}
    return {**places, **typed}


def _press(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "spanctl_cli.entry"]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    assert b"run-1" in done.stdout  # else something else was measured


def _installed(name: str, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    script = Path(sys.executable).with_name(name)
    return (str(script), "--help") if script.exists() else otherwise


def _run(command: tuple[str, ...]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
