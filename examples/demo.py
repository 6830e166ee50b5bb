"""The main job from start to end, on a local stack of its own: ``make demo``.

It types the commands that a person would type, and checks at the end what it has claimed. The
stack lives in a temporary folder and is stopped at the end; with ``--keep`` it stays, and the demo
says how to go on with it.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the fault proxy of the tests loses the reply

FILES = ("schema.sql", "transfer.py", "naive.py")
FEE = 2500
START = 100_000
PAYMENT = ("-p", "payer=EDDF", "-p", "payee=KJFK", "-p", f"cents={FEE}")
OPEN = "INSERT INTO accounts (icao, cents) VALUES ('EDDF', 100000), ('KJFK', 100000)"
REFILL = "UPDATE accounts SET cents = 100000 WHERE icao IN ('EDDF', 'KJFK')"
BALANCES = "SELECT icao, cents FROM accounts ORDER BY icao"


class DemoFailedError(Exception):
    """A command failed, or the database doesn't hold what the demo claims."""


class Shell:
    """Types commands into a folder of the demo's own."""

    def __init__(self, folder: Path) -> None:
        """Keep contexts, state and Prefect's profile inside the folder."""
        self.folder = folder
        own = {
            "SPANCTL_CONFIG_HOME": str(folder / "config"),
            "SPANCTL_STATE_HOME": str(folder / "state"),
            "PREFECT_HOME": str(folder / "prefect"),
        }
        foreign = ("SPANCTL_", "PREFECT_", "SPANNER_EMULATOR_HOST")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        self.own = own
        self._environment = {**kept, **own}

    def run(self, *arguments: str, **variables: str) -> None:
        """Show a command as it is typed, then run it.

        Raises:
            DemoFailedError: It failed.
        """
        shown = [f"{key}={value}" for key, value in variables.items()]
        command = ["spanctl", *(_quoted(argument) for argument in arguments)]
        tell("\n" + bold(f"$ {' '.join([*shown, *command])}"))
        done = subprocess.run(_spanctl(arguments), cwd=self.folder, env=self._with(variables))  # noqa: S603, PLW1510 - told below
        if done.returncode:
            msg = f"spanctl {arguments[0]} exited {done.returncode}"
            raise DemoFailedError(msg)

    def read(self, *arguments: str) -> dict[str, object]:
        """Run a command quietly and return its JSON.

        Raises:
            DemoFailedError: It failed.
        """
        done = subprocess.run(  # noqa: S603, PLW1510 - told below
            _spanctl(("--quiet", *arguments, "-o", "json")),
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
        )
        if done.returncode:
            msg = f"spanctl {arguments[0]} exited {done.returncode}"
            raise DemoFailedError(msg)
        result: dict[str, object] = json.loads(done.stdout)
        return result

    def _with(self, variables: dict[str, str]) -> dict[str, str]:
        return {**self._environment, **variables}


def _quoted(argument: str) -> str:
    """Quote as a person would: SQL with its own quotes goes into double ones."""
    plain = "'" in argument and not set('"$`\\') & set(argument)
    return f'"{argument}"' if plain else shlex.quote(argument)


def _spanctl(arguments: tuple[str, ...]) -> list[str]:
    script = Path(sys.executable).with_name("spanctl")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "spanctl_cli.main"]
    return [*program, *arguments]


def tell(text: str) -> None:
    """Say something between the commands."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def bold(text: str) -> str:
    """Make it stand out on a terminal."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def load(shell: Shell) -> None:
    """Import the airports, twice, and correct one of them."""
    import airportsdata

    shutil.copy(Path(airportsdata.__file__).with_name("airports.csv"), shell.folder)
    tell("\n-- Tables, and a change stream over them, so that audits show rows before and after.")
    shell.run("run", "sql", "--ddl", "schema.sql")
    shell.run("init", "--table", "airports", "--table", "accounts", "--table", "settlements")
    tell("\n-- 28,000 airports, checked whole, then written in transactions with a receipt each.")
    shell.run("run", "import", "airports.csv", "--table", "airports", "--reason", "first load")
    tell("\n-- Typed again, by somebody who didn't know: nothing is written.")
    shell.run("run", "import", "airports.csv", "--table", "airports")
    shell.run("run", "sql", "-e", "SELECT COUNT(*) AS airports FROM airports")
    tell("\n-- A correction by hand, with typed parameters and a reason that stays with it.")
    update = "UPDATE airports SET name = @name WHERE icao = @icao"
    named = ("-p", "name:STRING=Berlin Brandenburg Willy Brandt", "-p", "icao:STRING=EDDB")
    shell.run("run", "sql", "-e", update, *named, "--reason", "ticket 4711: official name")


def pay(shell: Shell) -> None:
    """Lose the reply to one Commit: for the naive flow, and for ours."""
    from tests.faults.proxy import FaultProxy, lose_reply

    emulator = _emulator(shell)
    tell(
        "\n-- Two accounts. From here on a proxy stands before the emulator, and loses the reply to"
    )
    tell("-- the second Commit of a flow: the server has committed, the client is told")
    tell("-- DEADLINE_EXCEEDED. First the flow as it is usually written, with Prefect's retries:")
    shell.run("run", "sql", "-e", OPEN, "--reason", "open accounts")
    for flow, expected in (("naive.py:transfer", 2), ("transfer.py:transfer", 1)):
        if expected == 1:
            tell("\n-- COMPLETED, and the fee was paid out twice: money came from nowhere.")
            tell("-- Set right by hand; then the same with spanctl:")
            shell.run("run", "sql", "-e", REFILL, "--reason", "correct the double payment")
        with FaultProxy(emulator) as proxy:
            rule = proxy.add(
                "Commit",
                lose_reply("DEADLINE_EXCEEDED"),
                nth=2,
                when=lambda peek: peek.transaction != "",
            )
            why = ("--reason", "landing fee 2026-11")
            shell.run("run", flow, *PAYMENT, *why, SPANNER_EMULATOR_HOST=proxy.address)
            for number, rpc in enumerate(proxy.rpcs("Commit"), 1):
                if rpc.transaction:
                    tell(f"   proxy: Commit {number}: server {rpc.upstream}, client {rpc.answered}")
        shell.run("run", "sql", "-e", BALANCES)
        if rule.hits != 1 or _paid(emulator) != (FEE, expected * FEE):
            msg = f"{flow} paid {_paid(emulator)} for one fee of {FEE}"
            raise DemoFailedError(msg)


def _emulator(shell: Shell) -> str:
    items = shell.read("local", "status")["items"]
    assert isinstance(items, list)  # noqa: S101 - for the type checker
    return next(str(item["endpoint"]) for item in items if item["part"] == "emulator")


def _paid(emulator: str) -> tuple[int, int]:
    """Return what has left the payer's account, and what has come to the payee's."""
    from spanctl.resources import DatabaseName
    from spanctl.spanner.client import Database, Target

    name = DatabaseName("spanctl-local", "local", "main")
    with Database(Target(database=name, emulator_host=emulator)) as database:
        held = {str(icao): int(cents) for icao, cents in database.query(BALANCES)}
    return START - held["EDDF"], held["KJFK"] - START


def look_back(shell: Shell) -> None:
    """Ask what happened: of the runs, and of the transaction whose reply was lost."""
    tell("\n-- What happened, newest first; then the deposit whose reply was lost.")
    shell.run("audit", "list", "--limit", "6")
    listed = shell.read("audit", "list", "--limit", "20")["items"]
    assert isinstance(listed, list)  # noqa: S101 - for the type checker
    lost = next(one["txn_id"] for one in listed if one.get("task") == "deposit")
    shell.run("audit", str(lost))


def main() -> int:
    """Run the demo; exit code 0 when everything that it claims was true."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the stack running")
    keep = parser.parse_args().keep
    folder = Path(tempfile.mkdtemp(prefix="spanctl-demo-"))
    for name in FILES:
        shutil.copy(HERE / name, folder)
    shell = Shell(folder)
    failed = True
    try:
        tell("-- Google's Spanner emulator, a Prefect server and a worker, on free loopback ports.")
        shell.run("local", "up")
        load(shell)
        pay(shell)
        look_back(shell)
        failed = False
    except DemoFailedError as error:
        sys.stderr.write(f"error: {error}\n")
    finally:
        if keep and not failed:
            tell(f"\n-- The stack is still up. To go on with it:\ncd {folder}")
            tell("\n".join(f"export {key}={value}" for key, value in shell.own.items()))
            tell("-- and to stop it: spanctl local down")
        else:
            tell("\n-- And stop everything.")
            shell.run("local", "down")
            shutil.rmtree(folder, ignore_errors=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
