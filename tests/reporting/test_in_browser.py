"""Pages in a real browser: that of a run sorts, filters and opens a case; all are without errors. Needs Chromium.

With the environment variable AXE_CORE, the path of axe.min.js (npm install axe-core), accessibility is checked, too.
"""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape

import pytest

from monai_tta.evaluation.trust_figures import trust_tables
from monai_tta.reporting import plots
from monai_tta.reporting.page import Plot, page
from monai_tta.reporting.report_page import report_page
from monai_tta.reporting.summary import tables_of
from monai_tta.reporting.trust_page import trust_page
from tests.reporting.example_records import document
from tests.reporting.example_rows import SETTINGS, some

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]
TRY = """<script>
const found = {};
const names = () => [...document.querySelectorAll("#masks tbody tr")].filter(row => !row.hidden).map(row => row.dataset.name);
const press = column => document.querySelectorAll("#masks thead button")[column].click();
found.first = names();
press(4); found.bySeconds = names(); press(4); found.backwards = names();
press(0); found.byName = names(); found.sort = document.querySelectorAll("#masks th")[0].getAttribute("aria-sort");
document.getElementById("named").value = "DOUBT"; document.getElementById("named").dispatchEvent(new Event("input"));
found.filtered = names(); found.shown = document.getElementById("shown").textContent;
document.getElementById("named").value = ""; document.getElementById("named").dispatchEvent(new Event("input"));
document.getElementById("kind").value = "use as it is"; document.getElementById("kind").dispatchEvent(new Event("change"));
found.usable = names();
document.getElementById("kind").value = ""; document.getElementById("kind").dispatchEvent(new Event("change"));
location.hash = "#case-3";
const tell = () => {
  const box = document.createElement("pre");
  box.id = "found";
  box.textContent = JSON.stringify(found);
  document.body.append(box);
};
setTimeout(async () => {
  found.opened = document.getElementById("case-3").open;
  document.querySelectorAll("details").forEach(item => { item.open = true; });
  if (window.axe) {
    const said = await axe.run();
    found.violations = said.violations.map(one => one.id + ": " + one.nodes.map(node => node.html).join(" | "));
  }
  tell();
}, 200);
</script>"""


CHECK = """<script>
setTimeout(async () => {
  document.querySelectorAll("details").forEach(item => { item.open = true; });
  const said = window.axe ? await axe.run() : {violations: []};
  const box = document.createElement("pre");
  box.id = "found";
  box.textContent = JSON.stringify(said.violations.map(one => one.id + ": " + one.nodes.map(node => node.html).join(" | ")));
  document.body.append(box);
}, 200);
</script>"""


def tried(tmp_path, page, script, *flags):
    """What a page did in the browser, and what its console said."""
    axe = os.environ.get("AXE_CORE")
    checker = "" if not axe else f"<script>{open(axe, encoding='utf-8').read()}</script>"
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", f"{checker}{script}</body>"), encoding="utf-8")
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=60000"]
    done = subprocess.run(
        [*words, *flags, "--dump-dom", f"file://{file}"], capture_output=True, text=True, encoding="utf-8", timeout=300
    )
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    return json.loads(unescape(found)), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def comparison():
    rows = some() + some(domain="e")
    tables = tables_of(rows)
    return page(
        tables, SETTINGS, [Plot("harm", "Harm and gain", plots.png(plots.harm_and_gain(tables[0])), tables[0])], seeds=[0]
    )


def trust():
    rows = [replace(one, signals={"entropy": 0.1 * k, "volume": 3.0 * k}) for k, one in enumerate(some() + some(domain="e"))]
    return trust_page(trust_tables(rows, 0.5, {}, 50), SETTINGS, 0.5)


@pytest.mark.parametrize("make", [comparison, trust])
def test_other_pages_open_without_errors(tmp_path, make):
    violations, console = tried(tmp_path, make(), CHECK)
    assert not console and not violations


@pytest.mark.parametrize("flags", [(), ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")], ids=["light", "dark"])
def test_it_sorts_filters_and_opens_without_errors(tmp_path, flags):
    found, console = tried(tmp_path, report_page(document(), 0.8), TRY, *flags)
    assert not console
    assert found["bySeconds"] == ["good", "doubtful", "bad <b>name</b>", "mirrored", "unread", "plain"]
    assert found["backwards"] == found["bySeconds"][::-1] and found["first"][0] == "bad <b>name</b>"
    assert found["byName"] == sorted(found["byName"], key=str.lower) and found["sort"] == "ascending"
    assert found["filtered"] == ["doubtful"] and found["shown"] == "1 of 6 shown" and found["usable"] == ["good"]
    assert found["opened"] and not found.get("violations")
