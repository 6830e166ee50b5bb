"""Who asked and why: what no receipt could hold is refused where it is said."""

import pytest

from spanctl.errors import UsageError
from spanctl.invocation import using


@pytest.mark.parametrize("what", ["reason", "initiator", "idempotency_key"])
def test_what_is_no_unicode_is_refused(what: str) -> None:
    """By name, before anything is written, without the text."""
    with pytest.raises(UsageError, match="no Unicode") as caught, using(**{what: "a\udcff"}):
        pytest.fail("it was taken")
    assert "a\udcff" not in caught.value.message


def test_text_in_any_language_is_taken() -> None:
    """As it is."""
    with using(reason="für 4711, 日本") as given:
        assert given.reason == "für 4711, 日本"
