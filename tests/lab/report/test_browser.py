"""A report in a real browser: no request, no message, no script, nothing cut or outside."""

import base64

import pytest
from browser import Browser, find_browser
from reports import (
    DATA,
    FINDINGS,
    NAMES,
    RECIPE,
    VALID,
    small_run,
    with_histograms,
    with_instruments,
)

from fnn import lab
from fnn.diagnose import Findings, Thresholds
from fnn.diagnose.curvature_rules import noise_findings, sharpness_findings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="needs chromium"),
]
# Elements outside of the window, except in tables that scroll.
OUTSIDE = """[...document.querySelectorAll('body *')].filter(element =>
    element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('.scroll')
).map(element => element.tagName)"""
# Texts of a figure that are outside of it.
CUT = """[...document.querySelectorAll('svg text')].filter(text => {
    const [inner, outer] = [text, text.ownerSVGElement].map(one => one.getBoundingClientRect());
    return inner.left < outer.left - 2 || inner.right > outer.right + 2
        || inner.top < outer.top - 2 || inner.bottom > outer.bottom + 2;
}).map(text => text.textContent)"""
# Pixels of the least text of a figure.
LEAST = """Math.min(...[...document.querySelectorAll('svg text')].map(text => {
    const matrix = text.getScreenCTM();  // of a rotated text too
    return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(matrix.a, matrix.b);
}))"""
BROKEN = "[...document.images].filter(image => !image.naturalWidth).length"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    options = {"recipe": RECIPE, "data": DATA, "valid": VALID}
    curvature = sharpness_findings(80.0, 20.0, 0.1) + noise_findings(3200.0, 32, Thresholds())
    options["findings"] = FINDINGS + Findings(curvature)
    result = with_histograms(with_instruments(small_run()))
    lab.report(result, path, **options, names=NAMES, compare=result)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1400, "dark")])
def test_a_report_is_readable_and_silent(browser, path, width, scheme):
    events = browser.open(path, width, scheme)
    methods = {event["method"] for event in events}
    assert not methods & {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
    requests = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(OUTSIDE) == []
    assert browser.evaluate(CUT) == []
    assert browser.evaluate(LEAST) > 6
    assert browser.evaluate(BROKEN) == 0
    assert browser.evaluate("document.querySelectorAll('svg').length") > 10
    assert browser.evaluate("document.scripts.length") == 0
    assert browser.evaluate("document.querySelectorAll('#histograms svg').length") == 3
    assert browser.evaluate("document.querySelectorAll('#curvature svg').length") == 2
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_report_prints_to_pdf(browser, path):
    browser.open(path, 1400)
    printed = base64.b64decode(browser.call("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF")
    assert 2 <= printed.count(b"/Type /Page\n") <= 20


def test_the_policy_stops_a_script_that_is_added(browser, path, tmp_path):
    text = path.read_text()
    changed = tmp_path / "changed.html"
    changed.write_text(text.replace("</main>", "<script>document.title = 'ran'</script></main>"))
    events = browser.open(changed, 1400)
    assert browser.evaluate("document.title") == "Report of a run"
    assert "Log.entryAdded" in {event["method"] for event in events}
