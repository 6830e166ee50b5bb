"""Names of databases: what is accepted is what Spanner accepts, and round-trips."""

import pytest

from spanctl.errors import UsageError
from spanctl.resources import DatabaseName, check_part


@pytest.mark.parametrize(
    "text",
    [
        "projects/my-project/instances/main/databases/orders",
        "projects/example.com:proj-1/instances/i-1/databases/a_b-1",
    ],
)
def test_a_full_name_is_read_and_written_back(text: str) -> None:
    """parse() and str() are inverse."""
    assert str(DatabaseName.parse(text)) == text


def test_parts_are_told_apart() -> None:
    """The parts and the instance's name come out as they went in."""
    name = DatabaseName.parse("projects/proj-1/instances/main/databases/orders")
    assert name == DatabaseName("proj-1", "main", "orders")
    assert name.instance_path == "projects/proj-1/instances/main"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "orders",
        "projects/p/instances/main/databases/orders",
        "projects/proj-1/instances/main/databases/orders/",
        "projects/proj-1/instances/main/databases/orders\n",
        " projects/proj-1/instances/main/databases/orders",
        "projects/proj-1/instances/main/databases/Orders",
        "projects/proj-1/instances/main/databases/orders-",
        "projects/proj-1/instances/main/databases/" + "a" * 31,
        "projects/proj-1/instances/../databases/orders",
        "projects/proj-1/instances/a/b/databases/orders",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    """Nothing reaches a request's path that isn't a name."""
    with pytest.raises(UsageError, match="no name of a Spanner database"):
        DatabaseName.parse(text)


def test_wrong_parts_are_refused_however_they_are_put_together() -> None:
    """The constructor is as strict as the parser: a slash can't smuggle in another database."""
    with pytest.raises(UsageError):
        DatabaseName("proj-1", "main/databases/other", "orders")


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("project", "P"),
        ("project", "123456"),
        ("instance", "i"),
        ("instance", "main-"),
        ("database", "Orders"),
        ("database", "a" * 31),
    ],
)
def test_the_part_that_is_wrong_is_named_with_its_rule(part: str, text: str) -> None:
    """Whoever wrote the form already is not told to write it."""
    parts = {"project": "proj-1", "instance": "main", "database": "orders", part: text}
    with pytest.raises(UsageError, match=f"'{text}' is no id of an? {part}") as caught:
        DatabaseName(**parts)
    assert f"{part}'s id has 2 to" in caught.value.hint
    with pytest.raises(UsageError, match=f"no id of an? {part}"):
        check_part(part, text)
