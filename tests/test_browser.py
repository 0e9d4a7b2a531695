"""Every page of the site in a real browser, at the width of a phone and of a desk, light and dark.

Needs Chromium; the accessibility rules need axe-core, which is not part of this repository (`tools/axe.sh` fetches
it). The site is the one of the smoke run, or the folder named by STEERKIT_SITE.
"""

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium, executable

from steerkit.files import cache_dir

PROBE = (Path(__file__).parent / "probe.js").read_text()
AXE = Path(os.environ.get("STEERKIT_AXE") or cache_dir("axe") / "axe.min.js")
PHONE, DESK = (360, 740), (1300, 900)
# Counts how far things jump while a page loads (the browsers' "cumulative layout shift").
WATCH = """window.steerkitShift = 0; new PerformanceObserver((list) => { for (const entry of list.getEntries())
  if (!entry.hadRecentInput) window.steerkitShift += entry.value; }).observe({type: "layout-shift", buffered: true});"""
# All rules of axe in the light, contrast again in the dark.
MODES = (("light", "{}"), ("dark", '{runOnly: {type: "rule", values: ["color-contrast"]}}'))
# Colours and places change gradually; this waits until they have.
SETTLED = """new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))
  .then(() => Promise.allSettled(document.getAnimations().map((change) => change.finished)))"""
TAB, RIGHT = ("Tab", 9), ("ArrowRight", 39)

pytestmark = pytest.mark.skipif(not executable(), reason="Chromium is not installed")


@dataclass(frozen=True)
class Visit:
    """What one page was like; `violations` are axe's serious and critical ones, None without axe."""

    phone: dict[str, Any]
    desk: dict[str, Any]
    complaints: tuple[str, ...]
    requests: tuple[str, ...]
    failed: tuple[str, ...]
    violations: tuple[str, ...] | None


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Chromium]:
    found = Chromium(executable(), tmp_path_factory.mktemp("chromium"))
    found.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
    yield found
    found.close()


@pytest.fixture(scope="module")
def serve() -> Iterator[Any]:
    """Serve a folder on this machine only; gives its address."""
    servers = []

    def begin(folder: Path) -> str:
        handler = functools.partial(Quiet, directory=str(folder))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def visit(browser: Chromium, url: str) -> Visit:
    """Open a page twice, as a phone and as a desk see it, and write down what is wrong with it."""
    seen, events = {}, []
    for size in (PHONE, DESK):
        browser.resize(*size)
        browser.call("Emulation.setEmulatedMedia", features=[scheme("light")])
        browser.open(url)
        seen[size] = browser.run(PROBE)
        events += browser.events
    # A notebook's page is made of what chapters are made of: in the dark those are enough.
    modes = MODES[:1] if "/notebooks/" in url else MODES
    violations = tuple(violated(browser, modes)) if AXE.exists() else None
    return Visit(seen[PHONE], seen[DESK], complaints(events), *traffic(events), violations)


def scheme(name: str) -> dict[str, str]:
    return {"name": "prefers-color-scheme", "value": name}


def violated(browser: Chromium, modes: Sequence[tuple[str, str]]) -> list[str]:
    """axe's findings that it calls serious or worse."""
    browser.call("Runtime.evaluate", expression=AXE.read_text())
    found = []
    for mode, rules in modes:
        browser.call("Emulation.setEmulatedMedia", features=[scheme(mode)])
        browser.run(SETTLED)
        done = browser.run(f"axe.run(document, {rules}).then((found) => found.violations)")
        for rule in (rule for rule in done if rule["impact"] in ("serious", "critical")):
            nodes = [f"{node['target'][-1]}: {node['failureSummary']}" for node in rule["nodes"]]
            found += [f"{mode}: {rule['id']} at {node}" for node in nodes]
    return found


def complaints(events: list[dict]) -> tuple[str, ...]:
    """Errors in the console: thrown, written there by a script, or by the browser itself."""
    found = []
    for event in events:
        about = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            found.append(about["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        if event["method"] == "Runtime.consoleAPICalled" and about["type"] in ("error", "assert"):
            found.append(json.dumps([part.get("value") for part in about["args"]]))
        if event["method"] == "Log.entryAdded" and about["entry"]["level"] == "error":
            found.append(about["entry"]["text"] + " " + about["entry"].get("url", ""))
    return tuple(found)


def traffic(events: list[dict]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Addresses that were asked for, and those that were answered with an error."""
    sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    got = [e["params"]["response"] for e in events if e["method"] == "Network.responseReceived"]
    return tuple(sent), tuple(f"{one['status']} {one['url']}" for one in got if one["status"] >= 400)


@pytest.fixture(scope="module")
def root(serve, built_site) -> str:
    return serve(built_site)


@pytest.fixture(scope="module")
def visits(browser, root, built_site) -> dict[str, Visit]:
    """Every page by its address below the site; of the listings of source code, which are all alike, one."""
    paths = [path for path in sorted(built_site.rglob("*.html")) if "_static" not in path.parts]
    names = [path.relative_to(built_site).as_posix() for path in paths]
    names = [name for name in names if "_modules/" not in name or name.endswith("/errors.html")]
    names.remove("index.html")  # which only sends on to the first page
    return {name: visit(browser, root + name) for name in names}


def sideways(found: dict[str, Any], width: int) -> list:
    return found["wide"] + [found["scrollWidth"]] * (found["scrollWidth"] > width)


WRONG = {
    "a script complains": lambda page, _: page.complaints,
    "another host is asked": lambda page, root: [
        url for url in page.requests if not url.startswith((root, "data:", "blob:"))
    ],
    "something is refused": lambda page, _: page.failed,
    "a phone scrolls sideways or cuts off": lambda page, _: sideways(page.phone, PHONE[0]),
    "a desk scrolls sideways or cuts off": lambda page, _: sideways(page.desk, DESK[0]),
    "a box says that there is a rest, or hides it": lambda page, _: page.phone["promised"],
    "a formula begins out of reach": lambda page, _: page.phone["cut"] + page.desk["cut"],
    "text on a phone is too small to read": lambda page, _: page.phone["small"],
    # The browsers' own measure calls 0.1 good and 0.25 poor. Formulas are typeset after the text is drawn: on a busy
    # machine they alone have cost 0.1.
    "it jumps while it loads": lambda page, _: max(page.phone["shift"], page.desk["shift"]) > 0.15,
    "axe finds something serious": lambda page, _: page.violations,
}


@pytest.mark.parametrize("what", WRONG)
def test_no_page_has_this_wrong(visits, root, what):
    if what.startswith("axe") and not AXE.exists():
        pytest.skip("axe-core is not there (`sh tools/axe.sh` fetches it)")
    assert {"intro.html", "api.html", "tan/reliability.html", "use/rerun.html"} <= set(visits)
    assert {name: found for name, page in visits.items() if (found := WRONG[what](page, root))} == {}


class TestKeyboard:
    """What a reader without a mouse meets."""

    @pytest.fixture
    def page(self, browser, root) -> Chromium:
        browser.resize(*DESK)
        browser.open(root + "tan/reliability.html")
        return browser

    def test_the_first_stop_is_a_visible_link_past_the_navigation(self, page):
        page.press(*TAB)
        page.run(SETTLED)
        first = page.run(
            "(() => { const at = document.activeElement, box = at.getBoundingClientRect();"
            " return [at.getAttribute('href'), box.top >= 0 && box.height > 10]; })()"
        )
        assert first == ["#main-content", True]
        assert page.run("Boolean(document.getElementById('main-content'))")

    def test_every_stop_shows_where_the_reader_is(self, page):
        unseen = []
        for _ in range(60):
            page.press(*TAB)
            unseen += page.run(FOCUS)
        assert unseen == []

    def test_the_tabs_of_a_figure_are_reached_and_turned_with_the_keys(self, page):
        chosen = "document.querySelector('.sd-tab-set > input:checked + label').textContent.trim()"
        tabs = "[...document.querySelectorAll('.sd-tab-set > label')]"
        names = page.run(f"{tabs}.map((tab) => tab.textContent.trim())")
        before, reached = page.run(chosen), False
        for _ in range(120):
            page.press(*TAB)
            if reached := page.run("document.activeElement.matches('.sd-tab-set > input')"):
                break
        page.press(*RIGHT)
        assert reached and before == names[0] and page.run(chosen) == names[1]


# The focused element when neither it nor its label has an outline, a border or a shadow that shows it.
FOCUS = """(() => {
  const at = document.activeElement;
  if (at === document.body) return [];
  const shown = [at, ...(at.labels ?? [])].some((node) => {
    const style = getComputedStyle(node);
    return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1) || style.boxShadow !== "none";
  });
  return shown ? [] : [`${at.tagName} ${at.className} ${at.textContent.trim().slice(0, 30)}`];
})()"""

BAD = """<!doctype html><html lang="en"><head><title>t</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head><body><main><article><h1>t</h1>
<style>@media (max-width: 600px) { .pst-scrollable-table-container::before { content: "swipe"; } }</style>
<div class="pst-scrollable-table-container">no more</div>
<img src="none.png"><a href="#nowhere">x</a><p style="font-size:8px">small</p>
<p id="late" style="color:#ddd">pale</p>
<div class="math" style="display:flex;flex-direction:row-reverse;overflow-x:auto"><math style="flex:none">
<mtext>a formula that is longer than a phone is wide, said in words</mtext></math></div><div style="width:900px">wide</div>
<script>console.error("oh"); setTimeout(() => { throw new Error("thrown"); }, 0);
fetch("http://elsewhere.invalid/x").catch(() => {});</script></article></main></body></html>"""


def test_a_bad_page_is_caught(browser, serve, tmp_path):
    """The checks above can fail: each finds its own fault on a page that has them all."""
    (tmp_path / "bad.html").write_text(BAD)
    address = serve(tmp_path)
    page = visit(browser, address + "bad.html")
    assert any("oh" in line for line in page.complaints) and any("thrown" in line for line in page.complaints)
    assert "http://elsewhere.invalid/x" in page.requests
    assert f"404 {address}none.png" in page.failed
    assert page.phone["scrollWidth"] > PHONE[0] and len(page.phone["wide"]) == 1
    assert page.desk["wide"] == [] and len(page.phone["small"]) == 1
    assert page.desk["cut"] == [] and len(page.phone["cut"]) == 1
    assert page.desk["promised"] == [] and len(page.phone["promised"]) == 1
    if page.violations is not None:
        assert any("color-contrast" in line for line in page.violations)
        assert any("image-alt" in line for line in page.violations)


FOUND = "[...document.querySelectorAll('ul.search > li > a')].map((link) => link.getAttribute('href'))"


@pytest.mark.parametrize("word", ["steerability", "propensity"])
def test_a_search_finds_chapters_before_notebooks_and_the_reference(browser, root, word):
    browser.resize(*DESK)
    browser.open(f"{root}search.html?q={word}")
    look = "if (document.querySelector('#search-results > p')) { clearInterval(at); setTimeout(next, 500); }"
    browser.run(f"new Promise((next) => {{ const at = setInterval(() => {{ {look} }}, 50); }})")
    pages = [link.partition("?")[0].partition("#")[0] for link in browser.run(FOUND)]
    behind = [page.startswith(("notebooks/", "api.html", "_modules/")) for page in pages]
    assert len(pages) > 5 and not any(behind[:5])
