"""The report in a real browser: drawn without a complaint, every picture shown, nothing wider than the window.

A copy of the page gets one script more, which waits for the page and writes what it found into the document; the page
itself forbids scripts and is opened as it is for the console.
"""

import json
import os
import re
import shutil
import subprocess

import pytest

from tests.evaluation.report_test import written  # noqa: F401 - the same page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
WIDTH = 1280
PROBE = """
<script>
addEventListener("load", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
  const images = [...document.images];
  const shown = one => { const box = one.getBoundingClientRect(); return box.width > 0 && box.height > 0; };
  document.body.dataset.found = JSON.stringify({
    images: images.length,
    broken: images.filter(one => !one.complete || one.naturalWidth === 0).length,
    hidden: images.filter(one => !shown(one) && getComputedStyle(one.parentElement).display !== "none").length,
    drawn: document.querySelectorAll("svg image").length,
    width: document.documentElement.scrollWidth,
    blurred: images.filter(one => getComputedStyle(one).filter.includes("blur")).length,
    adult: images.filter(one => one.alt.startsWith("Adult product")).length,
  });
});
</script></body>
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser here: none of {', '.join(BROWSERS)} is on the path"),
]


def browse(path, folder, *more):
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH},900", "--virtual-time-budget=10000",
        *more, path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ, check=True)
    return done.stdout, done.stderr


def test_the_page_says_nothing_to_the_console(written, tmp_path):  # noqa: F811
    path = tmp_path / "report.html"
    path.write_text(written[0])
    _, log = browse(path, tmp_path, "--enable-logging=stderr", "--v=0", "--dump-dom")
    assert [line for line in log.splitlines() if ":CONSOLE" in line] == []
    # The same browser does report a page that breaks its own rule, so silence means something.
    path.write_text(written[0].replace("</body>", "<script>1</script></body>"))
    _, log = browse(path, tmp_path, "--enable-logging=stderr", "--v=0", "--dump-dom")
    assert any(":CONSOLE" in line for line in log.splitlines())


def test_every_picture_is_drawn_and_nothing_is_wider_than_the_window(written, tmp_path):  # noqa: F811
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", written[0])
    assert source != written[0]
    path = tmp_path / "probed.html"
    path.write_text(source.replace("</body>", PROBE))
    document, _ = browse(path, tmp_path, "--dump-dom")
    found = json.loads(re.search(r'data-found="([^"]*)"', document)[1].replace("&quot;", '"'))
    assert found["images"] > 50 and found["drawn"] > 5
    assert found["broken"] == 0 and found["hidden"] == 0
    assert found["width"] <= WIDTH
    assert found["blurred"] == found["adult"] > 0
