"""JSON nested without an end, wherever others write: it is refused as any other nonsense there."""

import contextlib
import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from spanctl.credentials.rotation.journal import Journal, pins_from_text
from spanctl.errors import ConfigurationError, SchemaVersionError
from spanctl.orchestration import exact
from spanctl.orchestration.reading import RunReader
from spanctl.orchestration.settings import ApiSettings, parse_headers
from spanctl.spanner import receipts
from tests.fixtures.scripted_prefect import ScriptedPrefect
from tests.unit.spanner.test_receipts import FULL

BOTTOMLESS: Final = '{"a":' * 50_000
NONSENSE: Final = "{"


def receipt(text: str) -> Any:
    named = {**dict(zip(receipts.COLUMNS, receipts.row(FULL), strict=True)), "statements": text}
    return receipts.receipt(list(named.values()))


READERS: Final = [
    (Journal.from_text, ConfigurationError),
    (pins_from_text, ConfigurationError),
    (parse_headers, ConfigurationError),
    (receipt, SchemaVersionError),
    (exact.load, ValueError),
]


def test_no_parser_goes_so_deep() -> None:
    """Control: it is no ordinary error of JSON, which is looked for."""
    with pytest.raises(RecursionError):
        json.loads(BOTTOMLESS)
    with pytest.raises(json.JSONDecodeError):
        json.loads(NONSENSE)


@pytest.mark.parametrize("text", [BOTTOMLESS, NONSENSE], ids=["bottomless", "nonsense"])
@pytest.mark.parametrize(("read", "error"), READERS)
def test_it_is_nonsense(read: Callable[[str], Any], error: type[Exception], text: str) -> None:
    """One kind of error for both, which names neither."""
    with pytest.raises(error) as refused:
        read(text)
    assert BOTTOMLESS[:20] not in str(refused.value)


def test_an_artifact_of_it_is_text(scripted_prefect: ScriptedPrefect) -> None:
    """As an artifact is that holds no JSON."""
    for text in (BOTTOMLESS, NONSENSE):
        scripted_prefect.routes["POST /artifacts/filter"] = [{"data": text}]
        with contextlib.closing(RunReader(ApiSettings(scripted_prefect.url))) as reader:
            assert reader.artifact("r", "k") == text
