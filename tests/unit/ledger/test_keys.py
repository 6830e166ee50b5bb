"""Operation keys and txn IDs: the same for the same intent, on every machine and for ever."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl.errors import UsageError
from spanctl.ledger.keys import NAMESPACE, OperationKey, is_prefix, is_txn_id, txn_id

part = st.text(min_size=1, max_size=40)
keys = st.builds(
    OperationKey,
    root=part,
    path=st.lists(part, max_size=3).map(tuple),
    step=part,
    call=st.integers(min_value=0, max_value=2**40) | part,
)


@given(keys)
def test_a_key_is_read_back_as_it_was_written(key: OperationKey) -> None:
    """No character of a name or of a caller's key is lost, and none acts as a separator."""
    assert OperationKey.parse(str(key)) == key


@given(keys, keys)
def test_different_operations_have_different_ids(one: OperationKey, other: OperationKey) -> None:
    """Two operations share a txn ID only if they are the same one."""
    assert (txn_id(one) == txn_id(other)) == (one == other)


def test_ids_never_change() -> None:
    """These IDs stand in ledgers already: another computation would apply old writes again."""
    assert txn_id(OperationKey("job1", (), "ins", 0)) == "15e9c618-5d0d-5ed7-aacc-b26bd9142974"
    key = OperationKey("r/1", ("sub#0",), "deb it", "a=b/c")
    assert str(key) == "r%2F1/sub%230/deb it=a%3Db%2Fc"
    assert txn_id(key) == "2e63a594-f427-57a5-8314-036b79e49d49"
    assert txn_id(key) == str(uuid.uuid5(NAMESPACE, f"0:{key}"))


def test_an_ordinal_and_a_key_of_the_same_digits_differ() -> None:
    """The third call is another operation than the one that the caller named "3"."""
    ordinal, named = (OperationKey("r", (), "s", call) for call in (3, "3"))
    assert txn_id(ordinal) != txn_id(named)


def test_a_reopened_operation_has_another_id() -> None:
    """Each epoch has an ID of its own."""
    key = OperationKey("r", (), "s", 0)
    assert txn_id(key, 0) != txn_id(key, 1)


@pytest.mark.parametrize("parts", [("", (), "s", 0), ("r", ("",), "s", 0), ("r", (), "x" * 513, 0)])
def test_empty_and_endless_parts_are_refused(parts: tuple[str, tuple[str, ...], str, int]) -> None:
    """A key of them would be ambiguous, or too long to store."""
    with pytest.raises(UsageError, match="operation key"):
        OperationKey(*parts)


@pytest.mark.parametrize("text", ["", "r", "r/s", "r#1", "r/s#x", "r/s#1#2"])
def test_what_is_no_key_is_refused(text: str) -> None:
    """Reading never guesses."""
    with pytest.raises(UsageError):
        OperationKey.parse(text)


def test_prefixes_are_told_from_ids() -> None:
    """Eight characters name a transaction, as in git; less is refused."""
    whole = txn_id(OperationKey("r", (), "s", 0))
    assert is_txn_id(whole)
    assert is_prefix(whole[:8])
    assert is_prefix(whole)
    assert not is_prefix(whole[:7])
    assert not is_txn_id(whole[:8])
    assert not is_prefix("zzzzzzzz")
