"""What a stranger on the machine tries; standard library only, for it runs as another user.

``python intruder.py USER API FOLDER MARKER [HEADER VALUE]...``: becomes that user (``-`` for
nobody else), has a deployment run whose pull step makes the marker, reads what a stack keeps, and
looks at everybody's processes. It prints what it was told as JSON.
"""

import contextlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

BUSY = 503
PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
KEPT = (
    "prefect-auth",
    "prefect.html",
    "stack.json",
    "temporary",
    "logs/server.log",
    "logs/worker.log",
    "prefect-home/prefect.db",
    "identity/ca.key",
    "identity/identity.db",
    "identity/user.json",
)


def main() -> None:
    """Try everything."""
    user, api, folder, marker, *given = sys.argv[1:]
    with urllib.request.urlopen(f"{api}/health"):  # noqa: S310 - loopback; all imports are done then
        pass
    if user != "-":
        os.setgroups([])
        os.setresgid(int(user), int(user), int(user))
        os.setresuid(int(user), int(user), int(user))
    headers = {
        "Content-Type": "application/json",
        **dict(zip(given[::2], given[1::2], strict=True)),
    }
    seen: dict[str, list[int]] = {}

    def ask(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{api}{path}", data, headers, method=method)  # noqa: S310
        status = BUSY
        for pause in PAUSES:  # SQLite has one writer
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
                    status, content = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, content = error.code, b"null"
            if status != BUSY:
                break
            time.sleep(pause)
        seen.setdefault(f"{method} {path.partition('/')[0]}{path.split('/')[1]}", []).append(status)
        return json.loads(content or b"null") or {}

    flow = ask("POST", "/flows/", {"name": "intrusion"}).get("id")
    step = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {marker}"}}
    deployment = ask(
        "POST",
        "/deployments/",
        {
            "name": "intrusion",
            "flow_id": flow or "00000000-0000-4000-8000-000000000000",
            "work_pool_name": "local",
            "entrypoint": "none.py:none",
            "pull_steps": [step],
        },
    ).get("id", "00000000-0000-4000-8000-000000000000")
    ask("POST", f"/deployments/{deployment}/create_flow_run", {})
    ask("POST", "/flow_runs/filter", {})
    ask("GET", "/admin/settings")
    ask("GET", "/variables/name/health")
    ask("POST", "/block_documents/filter", {})
    ask("POST", "/automations/", {})
    ask("PATCH", "/work_pools/local", {"is_paused": True} if flow is None else {})
    read = []
    for name in KEPT:
        with contextlib.suppress(OSError):
            Path(folder, name).read_bytes()
            read.append(name)
    processes = []
    for kept in ("cmdline", "environ"):
        for path in Path("/proc").glob(f"[0-9]*/{kept}"):
            with contextlib.suppress(OSError):
                processes.append(path.read_bytes().decode(errors="replace"))
    json.dump({"statuses": seen, "read": read, "processes": processes}, sys.stdout)


if __name__ == "__main__":
    main()
