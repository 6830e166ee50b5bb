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
        (
            "Cannot parse regular expression: missing ): table (",
            "Cannot parse regular expression: ?",
        ),
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


INSERT = "INSERT INTO accounts (id, balance) VALUES ('secret', 4711)"
TABLE = "CREATE TABLE t (id STRING(36) NOT NULL,\n at TIMESTAMP) PRIMARY KEY (id)"


@pytest.mark.parametrize(
    ("sql", "text", "told"),
    [
        (
            TABLE,
            (
                f"Error parsing Spanner DDL statement: {TABLE} : Syntax error on line 2, column 2:"
                " Expecting ')' but found 'at'"
            ),
            (
                "Error parsing Spanner DDL statement: Syntax error on line 2, column 2:"
                " Expecting ')' but found 'at'"
            ),
        ),
        (
            "CREATE TABLE t (id INT64) OPTIONS (nosuch = 'secret')",
            (
                "Error parsing Spanner DDL statement: CREATE TABLE t (id INT64) OPTIONS"
                " (nosuch = 'secret') : Option: nosuch is unknown."
            ),
            "Error parsing Spanner DDL statement: Option: nosuch is unknown.",
        ),
        (
            "CREATE TABLE t (id STRING(MAX) NOT NUL) PRIMARY KEY (id)",
            "Syntax error on line 1, column 36: Expecting 'NULL' but found 'NUL'",
            "Syntax error on line 1, column 36: Expecting 'NULL' but found 'NUL'",
        ),
        (
            "CREATE TABLE t (v STRING(9) DEFAULT 'secret')",
            "Syntax error on line 1, column 47: Expecting '(' but found ''secret''",
            "Syntax error on line 1, column 47: Expecting '(' but found ??",
        ),
        (
            "UPDATE accounts SET balance = 'secret' WHERE true",
            (
                "Value of type STRING cannot be assigned to balance, which has type INT64"
                " [at 1:31], request_id = 1.17324792469407009533.2.0.230.1"
            ),
            "Value of type STRING cannot be assigned to balance, which has type INT64 [at 1:31]",
        ),
        (
            INSERT,
            (
                'Failed to insert row with primary key ({pk#id:"secret"}) due to previously'
                " existing row"
            ),
            "Failed to insert row with primary key ? due to previously existing row",
        ),
        (
            INSERT,
            (
                'UNIQUE violation on index by_owner,  duplicate key: {String("secret")}'
                " in this transaction."
            ),
            "UNIQUE violation on index by_owner,  duplicate key: ? in this transaction.",
        ),
        (
            INSERT,
            (
                "Foreign key `fk` constraint violation on table `orders`. Cannot find referenced"
                ' key `{String("secret")}` in table `accounts`.'
            ),
            (
                "Foreign key `fk` constraint violation on table `orders`. Cannot find referenced"
                " key ? in table `accounts`."
            ),
        ),
        (
            "INSERT INTO kids (id) VALUES (4711)",
            (
                "Insert failed because key was not found in parent table:  Parent Table: parents"
                "  Child Table: kids  Key: {Int64(4711)}"
            ),
            (
                "Insert failed because key was not found in parent table:  Parent Table: parents"
                "  Child Table: kids  Key: ?"
            ),
        ),
        (
            "SELECT id, COUNT(*) FROM accounts",
            "SELECT list expression references column id which is neither grouped nor aggregated",
            "SELECT list expression references column id which is neither grouped nor aggregated",
        ),
        (
            "SELECT id FROM a JOIN b ON a.id = b.id",
            "Column name id is ambiguous [at 1:8]",
            "Column name id is ambiguous [at 1:8]",
        ),
        (
            "SELECT 1 + 'secret'",
            "No matching signature for operator + for argument types: INT64, STRING [at 1:8]",
            "No matching signature for operator + for argument types: INT64, STRING [at 1:8]",
        ),
        ("SELECT (1", 'Syntax error: Expected "," but got end', None),
        ("CALL nosuch()", "Procedure not found: nosuch [at 1:6]", None),
        ("UPDATE t SET gen = 1", "Cannot UPDATE value on non-writable column: gen", None),
        ("UPDATE t SET a = 1, a = 2", "Update item a assigned more than once [at 1:34]", None),
        ("ALTER TABLE t DROP CONSTRAINT c", "c is not a constraint in t", None),
        ("SELECT * FROM t@{FORCE_INDEX=i}", "The table  does not have a secondary index", None),
    ],
)
def test_the_bare_words_of_the_statement_are_kept(sql: str, text: str, told: str | None) -> None:
    """Its names, keywords and marks, quoted or not; what is in a literal or a key is not."""
    assert masked(text, sql) == (text if told is None else told)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'secret'",
        'SELECT "secret"',
        "SELECT '''a\n secret'''",
        "SELECT r'\\' -- secret",
        "SELECT 1 /* secret */ # secret",
        "SELECT `secret`",
        "SELECT @secret",
        "SELECT 'never closed\n FROM t WHERE a = 'secret'",
    ],
)
@pytest.mark.parametrize("text", ["Encountered 'secret' while parsing", "Bad value: secret"])
def test_what_does_not_stand_bare_is_masked(sql: str, text: str) -> None:
    """Literals, comments, quoted names and parameters tell nothing, nor does what isn't closed."""
    assert "secret" not in masked(text, sql)


def test_a_literal_that_is_spelt_as_a_name_is_masked() -> None:
    """Where the message says that it is one."""
    sql = "SELECT * FROM t WHERE word = 'word' AND at = 5"
    assert masked('Could not cast literal "word" to type INT64', sql) == (
        "Could not cast literal ? to type INT64"
    )
