"""What Secret Manager accepts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl.local.standins import secretrules
from spanctl.local.standins.status import RefusedError, Status


@given(st.text())
def test_a_name_is_parsed_or_refused(text: str) -> None:
    """No text makes the parser do anything else, and what it takes apart joins again."""
    for depth in (1, 2, 3):
        try:
            name = secretrules.parse(text, depth=depth)
        except RefusedError as error:
            refused = error.status
        else:
            refused = Status.INVALID_ARGUMENT
            joined = f"projects/{name.project}"
            joined += f"/secrets/{name.secret}" * (depth > 1)
            joined += f"/versions/{name.version}" * (depth > 2)
            assert joined == text
        assert refused is Status.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("labels", "accepted"),
    [
        ({"env": "prod", "é-x_1": ""}, True),
        ({"": "x"}, False),
        ({"1st": "x"}, False),
        ({"k": "UPPER"}, False),
        ({"k": "has space"}, False),
        ({"k" * 64: "x"}, False),
        ({f"k{n}": "" for n in range(65)}, False),
        ({f"k{n}": "" for n in range(64)}, True),
    ],
)
def test_labels(labels: dict[str, str], accepted: bool) -> None:
    """Lower-case letters of any script, digits, - and _; a letter first; 63 long; 64 pairs."""
    try:
        secretrules.check_labels(labels)
    except RefusedError:
        assert not accepted
    else:
        assert accepted


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("state:ENABLED", True),
        ("state=DISABLED", False),
        ("labels.env=prod state:ENABLED", True),
        ("labels.env=prod AND labels.env=test", False),
        ('labels.env="prod"', True),
        ("labels.other=prod", False),
        ("name:secrets/s", True),
    ],
)
def test_filters(text: str, fits: bool) -> None:
    """Terms are joined; each must hold."""
    test = secretrules.compile_filter(text)
    assert test("projects/1/secrets/s", "ENABLED", {"env": "prod"}) is fits


@pytest.mark.parametrize("text", ["create_time>2020", "NOT state:ENABLED", "nonsense", "a OR b"])
def test_filters_that_the_stand_in_does_not_know(text: str) -> None:
    """They are refused, never taken to hold."""
    with pytest.raises(RefusedError) as refused:
        secretrules.compile_filter(text)
    assert refused.value.status is Status.UNIMPLEMENTED
