"""What `steerkit book` runs: one JSON line, the paths made or the error."""

import json
import sys

from _ext import build, pdf
from companion.cli.doctor import chromium
from steerkit.errors import SteerkitError

try:
    browser = chromium() if "--pdf" in sys.argv else ""  # before minutes of work
    made = {"site": str(build.build())}
    if browser:
        made["pdf"] = str(pdf.print_book(browser))
except SteerkitError as error:
    print(json.dumps(vars(error)))
    sys.exit(1)
print(json.dumps(made))
