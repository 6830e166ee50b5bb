"""Every label is in the table that says what covers it."""

from pathlib import Path

from spanctl import invocation

TABLE = (Path(__file__).parents[2] / "docs" / "SECURITY.md").read_text(encoding="utf-8")


def test_every_label_is_told() -> None:
    """By its name, or by what follows ``spanctl`` in a row of several."""
    labels = {text for name, text in vars(invocation).items() if name.endswith("_LABEL")}
    rows = [line for line in TABLE.splitlines() if line.startswith("| `spanctl.")]
    told = " ".join(line.split("|")[1] for line in rows)
    assert labels
    for label in labels:
        assert label in told or f"`.{label.removeprefix(invocation.LABEL_PREFIX)}`" in told, label
