"""What stands before the cursor, and how a value is written there.

zsh and fish unquote words and quote values themselves. bash does neither: it has what follows the
last word break or opening quote replaced, as it is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SEPARATOR: Final = "\x1f"
_SPECIAL: Final = frozenset(" \t!\"#$&'()*,;<>?[\\]^`{|}~")
_IN_DOUBLE: Final = frozenset('"$`\\')


@dataclass(frozen=True, slots=True)
class Typed:
    """A command line up to the cursor.

    Attributes:
        words: The words before the one at the cursor, without the program's name.
        current: The word at the cursor, unquoted, up to the cursor.
        kept: How many characters of that word the shell leaves alone when it inserts a value.
        quote: The quote that is open at the cursor; empty when none is.
    """

    words: tuple[str, ...]
    current: str
    kept: int = 0
    quote: str = ""

    @classmethod
    def read(cls, shell: str, environ: Mapping[str, str]) -> "Typed":
        """Read what the shell's script hands over in its environment."""
        if shell == "bash":
            return parsed(environ.get("_SPANCTL_LINE", ""), environ.get("_SPANCTL_BREAKS", ""))
        *words, current = environ.get("_SPANCTL_WORDS", "").split(SEPARATOR)
        return cls(tuple(words), current)

    def written(self, value: str) -> str:
        """Return the part of a value that bash inserts at the cursor, quoted as it has to be.

        bash then closes the quote that is open, unless the last character is such a quote.
        """
        rest = value[self.kept :]
        if self.quote == "'":
            quoted = rest.replace("'", "'\\''")
            return quoted[:-1] if rest.endswith("'") else quoted
        if self.quote:
            return _in_double(rest)
        return "".join(f"\\{char}" if char in _SPECIAL else char for char in rest)


def _in_double(text: str) -> str:
    """Return a text as it stands in double quotes; its last character may close them."""
    if text.endswith('"'):
        return f'{_in_double(text[:-1])}"\\"'
    quoted = "".join(f"\\{char}" if char in _IN_DOUBLE else char for char in text)
    # There only an end of the quotes keeps bash's history out, except right before the last one.
    return quoted[:-1].replace("!", '"\\!"') + quoted[-1:]


def parsed(line: str, breaks: str) -> Typed:
    """Split a line up to the cursor as bash does, with the word breaks of its readline."""
    words: list[str] = []
    word: str | None = None
    kept, quote, escaped = 0, "", False
    for char in line:
        if escaped:
            if quote and char not in _IN_DOUBLE:
                word = f"{word}\\"
            word, escaped = f"{word or ''}{char}", False
        elif char == "\\" and quote != "'":
            word, escaped = word or "", True
        elif quote:
            if char == quote:
                kept, quote = len(word or ""), ""
            else:
                word = f"{word}{char}"
        elif char in "'\"":
            word, quote = word or "", char
            kept = len(word)
        elif char.isspace():
            if word is not None:
                words.append(word)
            word, kept = None, 0
        else:
            word = f"{word or ''}{char}"
            kept = len(word) if char in breaks else kept
    return Typed(tuple(words[1:]), word or "", kept, quote)
