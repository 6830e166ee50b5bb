"""Where a database is and how it is reached, as a value."""

import pickle

import pytest

from spanctl.resources import DatabaseName
from spanctl.settings import Contexts, Settings, resolve
from spanctl.spanner.client import Database
from spanctl.spanner.rpc import Target

NAME = DatabaseName("my-project", "my-instance", "my-database")
VALUES = {
    "project": NAME.project,
    "instance": NAME.instance,
    "database": NAME.database,
    "spanner_endpoint": "127.0.0.1:443",
    "iam_endpoint": "https://127.0.0.1:444",
    "secretmanager_endpoint": "127.0.0.1:445",
    "ca_file": "/nowhere/roots.pem",
    "adc_file": "/nowhere/user.json",
    "credentials": "impersonate:runner@p.iam.gserviceaccount.com@from:secret:projects/p1/secrets/s",
    "secret_reader": "impersonate:reader@p.iam.gserviceaccount.com",
}


def settings(tmp_path, **more: str) -> Settings:
    contexts = Contexts(tmp_path / "contexts.toml", "c", {"c": {**VALUES, **more}})
    return resolve(environ={}, contexts=contexts)


def test_a_target_takes_all_that_it_needs_from_settings(tmp_path) -> None:
    """Endpoint, roots, identity services, references: what a worker far away needs too."""
    made = Target.from_settings(settings(tmp_path))
    assert (made.database, made.host) == (NAME, "127.0.0.1:443")
    assert (made.credentials, made.secret_reader) == (
        VALUES["credentials"],
        VALUES["secret_reader"],
    )
    assert made.identity.iam == made.identity.oauth2 == "https://127.0.0.1:444"
    assert made.identity.secretmanager == "127.0.0.1:445"
    assert (made.identity.ca_file, made.identity.adc_file) == (
        "/nowhere/roots.pem",
        "/nowhere/user.json",
    )


def test_a_target_pickles_and_hashes(tmp_path) -> None:
    """It goes to other processes, and is the key by which a process shares its channels."""
    made = Target.from_settings(settings(tmp_path))
    again = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    assert again == made
    assert len({made, again}) == 1


def test_an_emulator_wants_no_credentials(tmp_path) -> None:
    """It wins over all the rest, which is then left out: the same emulator is the same target."""
    made = Target.from_settings(settings(tmp_path, emulator_host="127.0.0.1:9010"))
    assert made == Target(
        database=NAME, emulator_host="127.0.0.1:9010", endpoint=VALUES["spanner_endpoint"]
    )
    assert made.live_credentials() is None
    with Database(made) as database:
        assert database.rpc.credentials is None


def test_targets_share_their_credentials(tmp_path) -> None:
    """One token serves every channel of a process that is opened with the same reference."""
    first = Target.from_settings(settings(tmp_path))
    other = Target.from_settings(settings(tmp_path), DatabaseName("p-2", "i-2", "d-2"))
    assert first.live_credentials() is other.live_credentials()
    foreign = Target.from_settings(settings(tmp_path, credentials="adc"))
    assert foreign.live_credentials() is not first.live_credentials()


@pytest.mark.parametrize(
    ("endpoint", "emulated"),
    [
        ("spanner.googleapis.com", False),
        ("spanner.europe-west3.rep.googleapis.com:443", False),
        ("10.0.0.1:443", False),
        ("127.0.0.1:9010", True),
        ("[::1]:9010", True),
        ("localhost:9010", True),
        ("localhost", True),
        ("localhost.example.com:443", False),
    ],
)
def test_what_answers_on_this_machine_is_an_emulator(endpoint: str, emulated: bool) -> None:
    """Behind a local gateway the emulator keeps its habits; the real service never is there."""
    assert Target(database=NAME, endpoint=endpoint).is_emulated is emulated
