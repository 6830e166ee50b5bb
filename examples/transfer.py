"""Pay a landing fee from one airport's account to another's: three transactions, one after another.

Run it with ``spanctl run transfer.py:transfer -p payer=EDDF -p payee=KJFK -p cents=2500``.
"""

from prefect import flow

from spanctl.flows import transaction

CHANGE = "UPDATE accounts SET cents = cents + @cents WHERE icao = @icao"


class InsufficientFundsError(Exception):
    """The account holds less than what shall be withdrawn."""


@transaction(retries=2)
def withdraw(txn, icao: str, cents: int) -> int:  # noqa: ANN001 - the Transaction
    """Take money from an account, and return what is left."""
    ((held,),) = txn.execute_sql("SELECT cents FROM accounts WHERE icao = @icao", {"icao": icao})
    if held < cents:
        raise InsufficientFundsError
    txn.execute_update(CHANGE, {"icao": icao, "cents": -cents})
    return int(held - cents)


@transaction(retries=2)
def deposit(txn, icao: str, cents: int) -> None:  # noqa: ANN001 - the Transaction
    """Add money to an account."""
    txn.execute_update(CHANGE, {"icao": icao, "cents": cents})


@transaction(retries=2)
def settle(txn, withdrawal: str, deposited: str, cents: int) -> None:  # noqa: ANN001 - the Transaction
    """File which two transactions belong together."""
    row = (withdrawal, deposited, cents)
    txn.insert("settlements", ("withdrawal", "deposit", "cents"), [row])


@flow
def transfer(payer: str, payee: str, cents: int) -> None:
    """Withdraw, deposit, and file both under their txn IDs."""
    withdrawn = withdraw(payer, cents)
    deposited = deposit(payee, cents)
    settle(withdrawn.txn_id, deposited.txn_id, cents)
