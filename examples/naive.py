"""The same payment as it is usually written: Prefect's retries around Google's client.

It looks careful, and pays twice when the reply to one Commit is lost. Compare ``transfer.py``.
It knows nothing of contexts: SPANNER_EMULATOR_HOST has to name the emulator that it plays with.
"""

import os

from google.auth.credentials import AnonymousCredentials
from google.cloud import spanner
from google.cloud.spanner_v1 import param_types
from prefect import flow, task

# The emulator mixes up transactions on the client's default, multiplexed sessions.
for _name in ("", "_FOR_RW", "_PARTITIONED_OPS"):
    os.environ.setdefault(f"GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS{_name}", "false")

CHANGE = "UPDATE accounts SET cents = cents + @cents WHERE icao = @icao"
TYPES = {"icao": param_types.STRING, "cents": param_types.INT64}


def _change(icao: str, cents: int) -> None:
    if "SPANNER_EMULATOR_HOST" not in os.environ:
        msg = "this example pays on an emulator only: set SPANNER_EMULATOR_HOST"
        raise RuntimeError(msg)
    client = spanner.Client("spanctl-local", credentials=AnonymousCredentials())
    database = client.instance("local").database("main")
    database.run_in_transaction(
        lambda txn: txn.execute_update(CHANGE, {"icao": icao, "cents": cents}, TYPES)
    )


@task(retries=2)
def withdraw(icao: str, cents: int) -> None:
    """Take money from an account."""
    _change(icao, -cents)


@task(retries=2)
def deposit(icao: str, cents: int) -> None:
    """Add money to an account."""
    _change(icao, cents)


@flow
def transfer(payer: str, payee: str, cents: int) -> None:
    """Withdraw, then deposit."""
    withdraw(payer, cents)
    deposit(payee, cents)
