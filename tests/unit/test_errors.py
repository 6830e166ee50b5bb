"""Errors: stable codes, one line, and whole on the other side of a pickle."""

import pickle

import pytest

from spanctl import errors
from spanctl.errors import SpanctlError


def every_error(base: type[SpanctlError] = SpanctlError) -> list[type[SpanctlError]]:
    return [base, *(kind for sub in base.__subclasses__() for kind in every_error(sub))]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_an_error_crosses_processes_whole(kind: type[SpanctlError]) -> None:
    """Type, message, hint and details survive pickling, in every protocol."""
    error = kind("it broke", hint="mend it", txn_id="t-1", codes=[1, 2])
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
        assert type(copy) is kind
        assert (copy.message, copy.hint) == ("it broke", "mend it")
        assert copy.details == {"txn_id": "t-1", "codes": [1, 2]}
        assert str(copy) == "it broke"


def test_codes_are_unique_and_fit_for_scripts() -> None:
    """One code names one class, in snake_case."""
    own = [kind for kind in every_error() if kind.__module__ == errors.__name__]
    codes = [kind.code for kind in own]
    assert len(set(codes)) == len(codes)
    assert all(code.isidentifier() and code.islower() for code in codes)


def test_details_may_hold_names_of_our_own_parameters() -> None:
    """A detail called like an attribute of exceptions survives too."""
    error = SpanctlError("x", args=[1], code="other")
    assert pickle.loads(pickle.dumps(error)).details == {"args": [1], "code": "other"}  # noqa: S301
    assert error.code == "failed"
