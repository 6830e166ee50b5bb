"""Write the golden files anew, after a change that is meant: ``python -m tests.golden``."""

import os
import shutil
import time

os.environ["TZ"] = "UTC"
time.tzset()

from tests.golden.cases import FOLDER, RESULTS, files  # noqa: E402 - the zone goes first

for name in (*RESULTS, "error"):
    shutil.rmtree(FOLDER / name, ignore_errors=True)
for name, text in files():
    path = FOLDER / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
