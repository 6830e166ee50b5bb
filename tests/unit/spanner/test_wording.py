"""Spanner's own words: what they say stays, what may be the user's data goes."""

import pytest

from spanctl.spanner.wording import masked


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "Unrecognized name: nosuch [at 1:8]\nSELECT nosuch, 'secret'\n       ^",
            "Unrecognized name: nosuch [at 1:8]",
        ),
        ("Table not found: nosuch [at 1:15]", "Table not found: nosuch [at 1:15]"),
        (
            'Syntax error: Expected end of input but got identifier "t" [at 1:14]',
            'Syntax error: Expected end of input but got identifier "t" [at 1:14]',
        ),
        (
            "Index by_v specifies key column v which does not exist in the index's base table.",
            "Index by_v specifies key column v which does not exist in the index's base table.",
        ),
        (
            "Cannot add NOT NULL column a.z to existing table a.",
            "Cannot add NOT NULL column a.z to existing table a.",
        ),
        (
            (
                "No matching signature for operator = for argument types: INT64, STRING."
                " Supported signature: ANY = ANY [at 1:34]"
            ),
            "No matching signature for operator = for argument types: INT64, STRING [at 1:34]",
        ),
        (
            "Check constraint `t`.`positive` is violated for key (secret)",
            "Check constraint `t`.`positive` is violated for key ?",
        ),
        (
            "Invalid value for column v in table t: Expected INT64.",
            "Invalid value for column v in table t: Expected INT64.",
        ),
        (
            (
                "Error parsing Spanner DDL statement: CREATE TABEL t (id\n DEFAULT ('secret'))"
                " : Syntax error on line 1, column 8: Encountered 'TABEL' while parsing: statement"
            ),
            (
                "Error parsing Spanner DDL statement: Syntax error on line 1, column 8:"
                " Encountered ? while parsing: statement"
            ),
        ),
    ],
)
def test_what_is_wrong_is_told(text: str, told: str) -> None:
    """With the names that the message announces as such, and the place in the statement."""
    assert masked(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "secret",
        "Bad int64 value: secret",
        "Bad int64 value: 's3cr3t-4711",
        'Table t: Row {Int64(4711), String("secret")} already exists.',
        'Row {String("a}b secret")} already exists',
        "Row [4711,secret] in table t already exists",
        "Row [a]b secret] in table t already exists",
        "UNIQUE violation on index by_v, duplicate key: [secret,4711] in this index.",
        "Check constraint `t`.`c` is violated for key (secret, first)",
        'Could not cast literal "secret" to type INT64 [at 1:2]',
        "Expected end of input but got string literal 'secret' [at 1:9]",
        "Failed to parse input string `secret word`",
        "int64 overflow: 4711 + 4711",
        "division by zero: 4711 / 0",
        "Invalid timestamp: secret 4711",
        "Value 4711 not found: secret",
        "the patient secret has secret",
        "Bad int64 value: name: secret",
        "Bad int64 value: @secret [at 1:8]",
        "Bad int64 value: a.b@secret.com",
        "Bad double value: a `secret` column secret",
        "Failed to parse input string table secret",
        "Invalid timestamp: column secret",
        "Row [a] name secret] in table t already exists",
        "UNIQUE violation on index by_v, duplicate key: [a], table secret, 4711] in this index.",
    ],
)
def test_no_literal_key_or_value_is_told(text: str) -> None:
    """Whatever a value looks like, only words of Spanner's own pass."""
    told = masked(text)
    for private in ("secret", "s3cr3t", "4711", "patient", "first"):
        assert private not in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name secret", ""),
        ("user name `secret` of table secret", ""),
        ("Bad int64 value: name: secret", "Bad int64 value: ?"),
        ("Invalid name secret", "Invalid name ?"),
        ("int64 overflow: 4711 + 4711", "int64 overflow: ?"),
        ("Cannot parse regular expression: missing ): table (", "Cannot parse ? expression: ?"),
        ("Division by zero: @secret / 0", "Division by zero: ?"),
        (
            "Check constraint `t`.`positive` is violated for key (secret)",
            "Check constraint `t`.`positive` is violated for key ?",
        ),
    ],
)
def test_a_value_that_was_computed_announces_no_name(text: str, told: str) -> None:
    """What ERROR() says is the user's own, whatever its words."""
    assert masked(text, evaluated=True) == told
