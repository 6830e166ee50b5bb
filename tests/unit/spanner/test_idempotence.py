"""What may be applied twice: read from the statement, refused where that can't be told."""

import pytest

from spanctl.errors import NotIdempotentError
from spanctl.spanner import idempotence, sql


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM t WHERE true",
        "DELETE t WHERE v < @limit AND s IN ('a', 'b')",
        "UPDATE t SET v = 1 WHERE v = 2",
        "UPDATE t SET v = @v, w = UPPER(u) WHERE k BETWEEN (1) AND (2)",
        "UPDATE t AS x SET x.v = x.w * 2 WHERE x.v IS NULL",
        "UPDATE t SET v = CASE WHEN w > 1 THEN 'SELECT v' ELSE NULL END WHERE NOT (w = 3)",
        "UPDATE @{PDML_MAX_PARALLELISM=2} t SET v = EXTRACT(YEAR FROM d) WHERE true",
        "UPDATE s.t SET v = SAFE.SUBSTR(u, 1), w = LOWER(u) WHERE u IS DISTINCT FROM 'x'",
        "UPDATE t SET v = v2 WHERE true -- v + 1",
        "UPDATE t SET v = IF(w, @v, 0) WHERE true",
    ],
)
def test_what_gives_the_same_again_passes(text):
    """Constants, parameters and columns that the statement doesn't write, by known functions."""
    assert idempotence.reason(sql.describe(text)) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("UPDATE t SET v = v + 1 WHERE true", "v is set from v, which the statement writes"),
        ("UPDATE t SET V = `v` + 1 WHERE true", "set from v"),
        ("UPDATE t x SET v = x.v + 1 WHERE true", "set from v"),
        ("UPDATE t SET a = b, b = a WHERE true", "a is set from b"),
        ("UPDATE t SET a = (b + (d * a)) WHERE true", "a is set from a"),
        ("UPDATE t SET g = c WHERE true", "g is set from c, which is computed"),
        ("UPDATE t x SET j = TO_JSON(x) WHERE true", "from the whole row"),
        ("UPDATE t SET j = TO_JSON(t) WHERE true", "from the whole row"),
        ("UPDATE t SET v = GENERATE_UUID() WHERE true", "GENERATE_UUID gives another value"),
        ("UPDATE t SET v = rand() WHERE true", "RAND gives another value"),
        ("UPDATE t SET v = PENDING_COMMIT_TIMESTAMP() WHERE true", "PENDING_COMMIT_TIMESTAMP"),
        ("UPDATE t SET v = CURRENT_TIMESTAMP WHERE true", "CURRENT_TIMESTAMP"),
        ("DELETE FROM t WHERE d < CURRENT_TIMESTAMP()", "CURRENT_TIMESTAMP"),
        ("DELETE FROM t WHERE RAND() < 0.5", "RAND"),
        ("UPDATE t SET v = GET_NEXT_SEQUENCE_VALUE(SEQUENCE s) WHERE true", "GET_NEXT_SEQUENCE"),
        ("UPDATE t SET v = DEFAULT WHERE true", "its default"),
        ("UPDATE t SET v = mine(1) WHERE true", r"whether MINE\(\) gives"),
        ("UPDATE t SET v = `upper_`(w) WHERE true", r"UPPER_\(\)"),
        ("UPDATE t SET v = ml.UPPER(w) WHERE true", r"ML\.UPPER\(\)"),
        ("UPDATE t SET v = a.SAFE.UPPER(w) WHERE true", r"A\.SAFE\.UPPER\(\)"),
        ("UPDATE t SET v = (SELECT MAX(w) FROM u) WHERE true", "subquery"),
        ("DELETE FROM t WHERE k IN (SELECT k FROM u)", "subquery"),
        ("DELETE FROM t", "no WHERE"),
        ("UPDATE t SET v = 1", "no WHERE"),
        ("UPDATE t SET (v) = 1 WHERE true", "can't be read"),
        ("UPDATE t SET v WHERE true", "can't be read"),
        ("UPDATE t SET v = WHERE true", "can't be read"),
        ("UPDATE t WHERE true", "can't be read"),
        ("UPDATE t SET v = @@x WHERE true", "system variable"),
        ("INSERT INTO t (v) VALUES (1)", "it is insert"),
    ],
)
def test_what_may_give_something_else_is_refused_with_the_reason(text, why):
    """Reading what is written, clocks, chance, sequences, and all that isn't known."""
    with pytest.raises(NotIdempotentError, match=why) as caught:
        idempotence.refuse(sql.describe(text), generated=["C"])
    assert "--assume-idempotent" in caught.value.hint
    assert caught.value.details["reason"] in caught.value.message


def test_the_reason_holds_no_value():
    """Literals may be private: what is told names columns and functions only."""
    text = "UPDATE t SET v = v || 'hunter2', w = 4711 WHERE s = 'hunter2'"
    told = idempotence.reason(sql.describe(text))
    assert told == "v is set from v, which the statement writes"
