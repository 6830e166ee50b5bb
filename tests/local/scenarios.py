"""What is typed to see every command at its best and at its worst, with canaries everywhere."""

from dataclasses import dataclass, field
from typing import Final

FLOWS: Final = '''
import base64, logging, os, subprocess, sys
from pathlib import Path

logging.basicConfig(level=logging.DEBUG)
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.flow_runs import suspend_flow_run
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.resolve import read_secret, resolve
from spanctl.flows import transaction
from spanctl.references import parse_kept
from spanctl.settings import resolve as settings_of


@transaction
def put(txn, row, value):
    txn.insert("canaries", ["id", "v"], [[row, value]])


def look(secret):
    """As a careless flow does: debug logging of everything, and material in a variable."""
    endpoints = Endpoints.from_settings(settings_of())
    live = resolve("adc", endpoints)
    token = live.ensure().reveal_text()
    for name in ("google", "grpc", "urllib3", "httpx"):
        logging.getLogger(name).setLevel(logging.DEBUG)
        logging.getLogger(name).propagate = True
    payload = read_secret(parse_kept(secret), endpoints).reveal()
    logging.getLogger("flows").debug("token %s, payload %s", token, payload)
    get_run_logger().info("token %s, payload %s", token, payload)
    try:
        raise LookupError(f"{token} {payload}")
    except LookupError:
        get_run_logger().exception("with a traceback")
    return token, payload


@flow
def settle(key: str, secret: str = "", fail: bool = False, mended: str = "", suspend: bool = False):
    put(key, "well")
    if suspend:
        suspend_flow_run(timeout=3600)
    material = look(secret) if secret else None
    if fail and not (mended and Path(mended).exists()):
        assert material is None or len(material) == 2
        raise ValueError("the body fails")


@flow
def leaky(key: str, note: str, folder: str):
    """The control: whoever leaks on purpose is found in each place."""
    put(key, note)
    get_run_logger().info(base64.b64encode(b"xy" + note.encode()).decode())
    print(note)
    logging.getLogger("flows").warning(note)
    create_markdown_artifact(note)
    emit_event("control.leaked", {"prefect.resource.id": "control"}, payload={"note": note})
    Path(folder, "leaked.txt").write_text(note.encode().hex())
    sleeper = "import time; time.sleep(2)"
    subprocess.run([sys.executable, "-c", sleeper, note], check=True)
    leaking = {**os.environ, "LEAK": note}
    subprocess.run([sys.executable, "-c", sleeper], env=leaking, check=True)
    raise RuntimeError(note)
'''

BAD: Final = -1
"""Any exit code but 0."""


@dataclass(frozen=True)
class Typed:
    """One command line.

    Attributes:
        words: What is typed after ``spanctl``; ``{names}`` are filled in.
        code: The exit code, or BAD for any but 0.
        environ: Variables that are set meanwhile.
        crash: Whether the process crashes in the middle, with a token in the error's text.
    """

    words: tuple[str, ...]
    code: int = 0
    environ: dict[str, str] = field(default_factory=dict)
    crash: bool = False


def t(line: str, code: int = 0, *, crash: bool = False, **environ: str) -> Typed:
    """Read a line; words are separated by spaces, and ``~`` stands for a space in one."""
    words = tuple(word.replace("~", " ") for word in line.split())
    return Typed(words, code, environ, crash)


_FORMATS = ("-o json", "-o jsonl", "-o csv", "-o name")
_INSERT = "run sql -e INSERT~INTO~canaries~(id,v)~VALUES~('{n}','x')"
_SELECT = "run sql -e SELECT~*~FROM~canaries"
_DEAD = "127.0.0.1:1"
_READER = "impersonate:reader@{project}.iam.gserviceaccount.com"
_RUNNER = "runner@{project}.iam.gserviceaccount.com"
_NOBODY = "impersonate:nobody@{project}.iam.gserviceaccount.com"
_SECRET = "secret:projects/{project}/secrets/"  # noqa: S105 - a name

_READS = (
    "creds list",
    "creds show lent",
    "creds history lent",
    "creds whoami",
    "creds whoami lent",
    "creds check lent",
    "audit list",
    "audit show {txn}",
    "context list",
    "context show",
    "local status",
    "txn list",
    "runs list",
    "runs show {run}",
    "runs open {run}",
    "runs logs {run}",
    "runs wait {run} --timeout 60s",
    "runs watch {run} --timeout 60s",
    "doctor",
    "deployments list",
    "deployments show settle/canary",
    "help key_closed",
    _SELECT,
)

BEGINNING: Final = (
    t("run sql --ddl -e CREATE~TABLE~canaries~(id~STRING(64),v~STRING(MAX))~PRIMARY~KEY~(id)"),
    t("init --table canaries"),
    t("init --dry-run -o json"),
    t(_INSERT),
)

STORY: Final = (
    t("audit list -o json"),
    t(_SELECT + " --dry-run"),
    t("run import {csv} --table canaries"),
    t("run import {bad} --table canaries", BAD),
    t("run target {flows}:settle -p key=a1"),
    t("run target {flows}:settle -p key=a2 -p secret={planted}"),
    t("run target {flows}:settle -p key=a3 -p secret={planted} -p fail=true", 1),
    t("run target {flows}:settle -p key=a4 -p fail=true -o json", 1),
    # The context's credentials come from each kind of secret, good and bad.
    t(_INSERT, SPANCTL_CREDENTIALS=_SECRET + "keyed"),
    *(
        t(f"{line} {more}", BAD, SPANCTL_CREDENTIALS=f"{_SECRET}{name}")
        for name in ("expired", "refused", "broken", "wrong", "missing")
        for line in ("creds check " + name, _SELECT)
        for more in ("", "-o json")
    ),
    t(_INSERT, 4, SPANCTL_CREDENTIALS=_READER),
    t(_SELECT, 4, SPANCTL_CREDENTIALS=_NOBODY),
    t("--verbose audit list", 4, SPANCTL_CREDENTIALS=_NOBODY),
    t("init --table canaries", 4, SPANCTL_CREDENTIALS=_NOBODY),
    t(_SELECT, 3, SPANCTL_SPANNER_ENDPOINT=_DEAD),
    t("audit list -o json", 3, SPANCTL_SPANNER_ENDPOINT=_DEAD),
    t("txn list", 3, SPANCTL_SPANNER_ENDPOINT=_DEAD),
    t("--verbose doctor", BAD, SPANCTL_ADC_FILE="/nowhere"),
    t("creds list", 3, SPANCTL_SECRETMANAGER_ENDPOINT=_DEAD),
    t("creds list", BAD, SPANCTL_IAM_ENDPOINT=f"https://{_DEAD}"),
    t("creds whoami", BAD, SPANCTL_ADC_FILE="/nowhere"),
    t(f"creds create lent --impersonate {_RUNNER}"),
    t(f"creds create lent --impersonate {_RUNNER}", BAD),
    t("creds create other --impersonate nobody@{project}.iam.gserviceaccount.com", BAD),
    t("creds exec lent -- true"),
    t("creds exec -- true"),
    t("creds exec lent -- {python} -c raise~SystemExit(3)", 3),
    t("creds exec -- /nowhere/at-all", 127),
    t("creds rotate lent --dry-run"),
    t("creds rotate lent"),
    t("creds rotate keyed"),
    t("creds rotate lent --resume"),
    t("creds rotate lent --abort --yes"),
    t("creds rotate lent --verbose", BAD),
    t("creds rotate broken", BAD),
    t("creds rotate --due"),
    t("creds rotate --all"),
    t("creds schedule lent --every 1h"),
    t("creds schedule --remove"),
    t("txn list --unresolved"),
    t("txn resolve {txn}"),
    t("txn fence {txn} --reason no", BAD),
    t("txn reopen {txn} --reason no", BAD),
    t("audit show 00000000", BAD),
    t("runs show {run} --parameters"),
    t("runs show {run}", BAD, SPANCTL_CREDENTIALS=_NOBODY),
    t("runs list --state failed --since 1h"),
    t("runs open nobody-s-run", BAD),
    t("runs logs nobody-s-run", BAD),
    t("runs cancel {run}", BAD),
    t("runs retry {run}", BAD),
    t("doctor", BAD, SPANCTL_CREDENTIALS=_NOBODY),
    t("doctor -o json", BAD, SPANCTL_CREDENTIALS=_SECRET + "refused"),
    t("--verbose doctor", BAD, SPANCTL_SPANNER_ENDPOINT=_DEAD),
    t("deployments show settle/nothing", BAD),
    t("help nonsense", BAD),
    t("context create other project=p1"),
    t("context create other", BAD),
    t("context use other"),
    t("context import-prefect {toml} --yes"),
    t("context use local"),
    t("context set credentials={pasted}", BAD),
    t("context set ca_file={ca}"),
    t("context use nowhere", BAD),
    t("context use local"),
    t("context delete other --yes"),
    t("creds show {pasted}", BAD),
    t("creds check {pasted}", BAD),
    t("creds nonsense {pasted}", BAD),
    *(
        t(f"--debug {line}")
        for line in ("creds check lent", "creds whoami", "runs show {run}", _SELECT, "audit list")
    ),
    t("--debug creds check refused", BAD),
    t("--debug run target {flows}:settle -p key=a5 -p secret={planted} -p fail=true", 1),
    t("context set recover_every=0s"),  # a worker's recoverer would do what commands here are to
    t("local up"),
    t("context set recover_every="),
    t("local logs --lines 1000"),
    t("local logs worker -n 5"),
    *(t(line) for line in _READS),
    *(
        t(f"{line} {more}")
        for line in _READS
        for more in (_FORMATS if line.startswith("creds") else _FORMATS[:1])
    ),
    *(t(line, 1, crash=True) for line in ("creds whoami", _SELECT, "audit list -o json")),
    *(t(f"--verbose {line}", 1, crash=True) for line in ("creds check lent", _SELECT)),
)
"""In order; what is good for nothing but the end comes later."""

DAMAGED: Final = tuple(
    t(line, BAD)
    for line in (
        "creds check keyed -o json",
        "creds rotate lent",
        "creds exec lent -- true",
    )
)
"""While whatever Secret Manager answers differs from its checksum."""

ELSEWHERE: Final = (
    t("run settle/canary -p key=d1 -p secret={planted} --timeout 120s"),
    t(
        "run settle/canary -p key=d2 -p secret={planted} -p fail=true -p mended={mended}"
        " --timeout 120s",
        1,
    ),
)
"""Runs of a deployment by the stack's worker."""

FAILED: Final = (
    t("runs show {failed} --parameters"),
    t("runs logs {failed} --level debug -o json"),
    t("runs wait {failed} --timeout 60s", 1),
    t("runs watch {failed} --timeout 60s", 1),
    t("runs retry {failed} --timeout 120s", 1),
)
"""What is told of a deployment's run that failed."""

MENDED: Final = (
    t("runs retry {failed} --timeout 120s"),
    t("runs wait {going} --for suspended --timeout 120s"),
    t("runs cancel {going} --reason wrong~day --timeout 120s"),
    t("runs cancel {going}", BAD),
)
"""When what made that run fail is mended, and another suspends itself once it has written."""

LIMBO: Final = (
    t("txn list --unresolved -o json", 9),
    t("txn fence {left0} --reason wrong~amount"),
    t("txn reopen {left0} --reason it~was~right"),
    t("txn reopen {left0} --reason again", BAD),
    t("txn resolve {left1}"),
    t("runs recover --all --dry-run"),
    t("runs recover --all"),
    t("txn list --unresolved"),
    t("runs recover --schedule -o json"),  # its run would leave the others nothing to do
    t("runs recover --remove"),
    t("local up"),
)
"""When an executor has died that leased three transactions."""

LAST: Final = (t("local down"), t("local status", 3), t("local reset --yes"))
