"""``run sql`` asks before something is lost, and a script has to say that it wants that."""

from collections.abc import Callable
from typing import Final

import pytest

from tests.fixtures.cli import Ended, Spanctl
from tests.flows.bank import Bank

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

LOSSES: Final = (
    (("-e", "DELETE FROM accounts WHERE true"), "it deletes every row of accounts"),
    (("-e", "UPDATE accounts SET balance = 0 WHERE 1 = 1"), "it changes every row of accounts"),
    (
        ("--partitioned", "-e", "DELETE FROM accounts WHERE id = id"),
        "it deletes every row of accounts",
    ),
    (
        ("--ddl", "-e", "DROP TABLE events; ALTER TABLE accounts DROP COLUMN balance"),
        "it drops table events, drops column balance of accounts",
    ),
)


@pytest.mark.parametrize(("words", "told"), LOSSES)
def test_a_script_has_to_agree(
    spanctl: Spanctl, bank: Bank, words: tuple[str, ...], told: str
) -> None:
    """Exit 2, one line with what to type; nothing was run, and no flow run was made."""
    done = spanctl("run", "sql", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{told}; go on?" in done.stderr
    assert "--yes" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert (bank.balance("a"), bank.receipts()) == (0, [])


def test_agreed_beforehand(spanctl: Spanctl, bank: Bank) -> None:
    """With --yes it is done."""
    update = "UPDATE accounts SET balance = 7 WHERE true"
    assert spanctl("run", "sql", "-e", update, "--yes").exit_code == 0
    assert bank.balance("a") == 7


@pytest.mark.parametrize(("words", "told"), LOSSES)
def test_a_dry_run_loses_nothing(
    spanctl: Spanctl, bank: Bank, words: tuple[str, ...], told: str
) -> None:
    """So it asks nothing."""
    done = spanctl("run", "sql", *words, "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert told not in done.stderr
    assert bank.balance("a") == 0


@pytest.mark.parametrize(("answer", "code", "left"), [("n\r", 1, 0), ("\r", 1, 0), ("y\r", 0, 7)])
def test_a_person_is_asked(
    terminal: Callable[..., Ended], bank: Bank, answer: str, code: int, left: int
) -> None:
    """Anything but a yes runs nothing."""
    update = "UPDATE accounts SET balance = 7 WHERE true"
    ended = terminal("run", "sql", "-e", update, columns=100, keys=answer)
    assert "it changes every row of accounts; go on? [y/N]" in ended.stdout
    assert (ended.exit_code, bank.balance("a")) == (code, left)


def test_what_is_chosen_by_its_key_is_not_asked_about(spanctl: Spanctl, bank: Bank) -> None:
    """The everyday statement goes through as ever."""
    update = "UPDATE accounts SET balance = 7 WHERE id = 'a'"
    assert spanctl("run", "sql", "-e", update).exit_code == 0
    assert bank.balance("a") == 7
