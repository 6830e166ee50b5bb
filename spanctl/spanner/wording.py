"""Spanner's own words about a refusal, without what may be a literal, a key or a value of a row.

Only words that are known to be Spanner's are kept, the names of tables, columns and the like that
its messages announce as such, and what stands bare in the statement that it refuses. Whatever else
a message holds is shown as ``?``.
"""

import re
from typing import Final

from spanctl.spanner.sql import bare_words

MASK: Final = "?"
_TEXT: Final = """
a able above access add added aggregate aggregates aggregation alias all allow allowed allows
already also alter alteration altered ambiguous an and another any are argument arguments array as
at attribute bad base be because been being below between binding bool boolean both bound but by
bytes called can cannot cascade case cast change changed character characters check child clause
clauses cloud code column columns comma commit compare conflict conflicting conflicts constant
constraint constraints contain contains conversion convert correlated correspond corresponding
could count create created cycle data database date ddl declared deeply default defined definition
definitions delete deleted deletion depends depth describe did different distinct division dml do
does doing drop dropped dropping due duplicate duplicated each either element elements else empty
encountered end ended enough enum equal equality error escape exactly exceed exceeded exceeds
except executed exist existing exists expect expected expecting expects expression expressions
extra failed failure field fields find first float float32 float64 following for foreign format
found from full function functions generated given got graph greater group grouped has have having
hint identifier if illegal implicit implicitly in incompatible incorrect index indexes indices
input insert inserted inside instead int int64 integer interleaved interval into invalid is it
item its join json key keys keyword last lateral least left length less limit line list literal
longer match matches matching maximum may mean member minimum mismatch missing more most multiple
must mutation mutations name named names negative nested new no non nor not null nullable number
numeric of offset old on one only operand operation operator option options or order ordinal other
out outside over overflow pair parameter parameters parent parentheses parse parsing part
partition path pending per placeholder position positive precision prefix present primary proto
provided query range reached read recursive reference referenced references referencing
referential referring refers required requires reserved result return returned returns right
rolled row rows s same scalar schema select selected sequence set should signature signed single
size spanner specified specifies specify standard start statement statements stored storing stream
string strings struct subquery such supported syntax system table tables target than that the then
there they this time timestamp to token too transaction type types unable unclosed undefined
underflow unexpected union unique unknown unrecognized unsupported update updated use used user
using uuid valid value values view violate violated violates violation visible was well when where
which while with within without would write written wrong zero zone
actual adding aggregated aggregation aggregations analytic arrays assigned begin bounds build
called causes common concatenation creation decode dependent either error explicitly floating fetch
future grouped hexadecimal incomplete integer kind literals method mismatched modify neither
nonexistent object objects once please point previously procedure queries range reducing regular
scan secondary security start statement step streams string subsequent supertype support
timestamps track unnamed unnest writable
you
"""
_WORDS: Final = frozenset(_TEXT.split())
_RESERVED: Final = """
all and any array as asc assert_rows_modified at between by case cast collate contains create cross
cube current default define desc distinct else end enum eof escape except exclude exists extract
false fetch following for from full group grouping groups hash having if ignore in inner intersect
interval into is join lateral left like limit lookup merge natural new no not null nulls of on or
order outer over partition preceding proto range recursive respect right rollup rows select set some
struct tablesample then to treat true unbounded union unnest using when where window with within
column constraint foreign index interleave key parent primary references stored table unique values
"""
_KEYWORDS: Final = frozenset(_RESERVED.split())
_NAMED: Final = (
    r"(?:(?:parent|child)\ table|table|column|index|constraint|indices|indexes|identifier|keyword"
    r"|function|sequence|schema|stream|view|alias|property|name|parent|mean"
    r"|(?:table|column|index|function|sequence|schema|type|view)\ not\ found)"
)
_NAME: Final = r"(?:`[A-Za-z_][\w$]*`|[A-Za-z_][\w$]*)"
_PATH: Final = rf"{_NAME}(?:\.{_NAME})*"
_PART: Final = re.compile(
    rf"""
    (?P<at>\[at\ \d+:\d+\]|\b(?:on\ )?line\ \d+(?:,\ column\ \d+)?)
    |(?P<named>\b{_NAMED}:?\ (?!not\b)(?:'{_PATH}'|"{_PATH}"|{_PATH})(?![\w'"\[{{]))
    |(?P<ticked>`[A-Za-z_][\w$]*`)
    |(?P<key>\bkey\ \(.*\))
    |(?P<parameter>@[A-Za-z_]\w*)
    |(?P<held>\{{.*\}}|\[(?:(?!\[at\ \d).)*\]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    |(?P<word>[A-Za-z_][\w'-]*)
    |(?P<other>[^\s.,:;()<>=/?+*|$-]+)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ECHO: Final = re.compile(r"(DDL statement):.*:\s*(?=Syntax error)", re.DOTALL)
_SIGNATURES: Final = re.compile(r"\.? Supported signatures?:.*?(?= \[at \d|$)")
_DATA: Final = re.compile(
    r"(?i)(\b(?:(?:values?|inputs?|literal|string|bytes|dates?|times?|timestamp|interval|json|uuid"
    r"|numeric|number|pattern|format|element)\s*:|input string\b:?))\s.*?(?=\s*\[at \d|$)"
)
"""What is followed by a value, which may look like anything, up to the place in the statement."""
_CHECK: Final = re.compile(r"Check constraint `[^`]+`(?:\.`[^`]+`)* is violated\b")
_EVALUATED: Final = re.compile(
    r"(?:Bad|Invalid|Illegal|Cannot|Could not|Unable to|Failed to|Error parsing|Failure|Array"
    r"|Mismatch|Row|Table|Column|Value|New value|Division by zero|Floating point|\w+ overflow)\b",
    re.IGNORECASE,
)
"""How Spanner begins to tell what went wrong with a value; a text of ERROR() is the user's own."""
_REQUEST: Final = re.compile(r",? request_id = [\w.]+\s*$")
_QUOTES: Final = "\"'`"
_LONGEST: Final = 300


def masked(text: str, sql: str = "", *, evaluated: bool = False) -> str:
    """Return a message of Spanner with all that may be the user's data masked; empty for no words.

    Args:
        text: The message. What follows its first line repeats the statement, and is left out.
        sql: The statement that it is about: its bare words (names, functions, keywords) are kept.
        evaluated: Whether it is about a value that was computed, so that names in it are none.
    """
    text = _REQUEST.sub("", text.strip())
    for statement in filter(None, sql.split(";\n")):
        text = text.replace(f": {statement} : ", ": ", 1)
    lines = _ECHO.sub(r"\1: ", text).splitlines()
    if not lines:
        return ""
    checked = _CHECK.match(lines[0])
    if evaluated and not checked and not _EVALUATED.match(lines[0]):
        return ""
    line = _DATA.sub(rf"\1 {MASK}", _SIGNATURES.sub("", lines[0]))
    if evaluated and not checked:
        told = _PART.sub(_unnamed, re.sub(r":\s.*", f": {MASK}", line))
    else:
        own = bare_words(sql)
        told = _PART.sub(lambda found: _shown(found, own), line)
    told = re.sub(r"\?(?:\s+\?)+", MASK, told)
    return told[:_LONGEST] if re.search(r"[A-Za-z]", told) else ""


def names(text: str) -> set[str]:
    """Return the names in a message or a statement, in lower case: what is no word of Spanner's."""
    return {word for word in re.findall(r"[a-z_]\w*", text.lower()) if word not in _WORDS}


def _unnamed(found: re.Match[str]) -> str:
    """Show only words of Spanner's: what looks like a name may be a part of a value."""
    if found.lastgroup not in {"named", "ticked", "parameter"}:
        return _shown(found, frozenset())
    announced, space, _ = found.group().rpartition(" ")
    return f"{announced}{space}{MASK}"


def _shown(found: re.Match[str], own: frozenset[str]) -> str:
    text = found.group()
    match found.lastgroup:
        case "at" | "ticked" | "parameter" | "named":
            return text
        case "word" if text.lower() in own:
            return text
        case "word" if all(part.lower() in _WORDS for part in re.split(r"[_'-]", text)):
            return text
        case "held" if text[0] in _QUOTES and _is_token(text[1:-1], own, found):
            return text
        case "key":
            return f"key {MASK}"
    return MASK


def _is_token(text: str, own: frozenset[str], found: re.Match[str]) -> bool:
    """Tell whether what a message quotes is a mark, a keyword or a bare word of the statement."""
    if re.search(r"(?:literal|string|value):?\s*$", found.string[: found.start()], re.IGNORECASE):
        return False
    if re.fullmatch(r"[^\w\s'\"`\\]+", text):
        return True
    return text.lower() in _KEYWORDS or text.lower() in own
