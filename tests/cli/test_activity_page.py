"""The page of ``chiltepin activity --html``, in a real browser."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta, timezone

import pytest

from chiltepin.transfers.activity.page import write
from chiltepin.transfers.activity.records import build_record, parse_line

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
TASKS = 250


def task(number):
    """A task that begins ``number`` seconds after noon; every tenth has failed, and one is active."""
    begun = NOW + timedelta(seconds=number)
    bad = number % 10 == 3
    state = "failed" if bad else "active" if number == 7 else "succeeded"
    line = {
        "v": 1,
        "event": "seen" if number == 7 else "ended",
        "id": str(number),
        "at": (begun + timedelta(seconds=5)).isoformat(),
        "asked": begun.isoformat(),
        "moving": (begun + timedelta(seconds=1)).isoformat(),
        "backend": "local",
        "kind": "transfer",
        "from": "laptop" if number % 2 else "<img src=x onerror=document.title=1>",
        "to": "archive",
        "items": [[f"/data/{number:03}.nc", f"/kept/{number:03}.nc"]],
        "count": 1,
        "label": "",
        "state": state,
        "code": "QUOTA_EXCEEDED" if bad else "",
        "reason": "The disk is full.</script><script>document.title=1</script>" if bad else "",
        "bytes": 0 if bad else number * 1000,
        "files": 0 if bad else 1,
    }
    return build_record(parse_line(line), followed=True)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium that logs its requests."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def shown(browser, tmp_path):
    """The browser, showing the page of 250 tasks."""
    file = tmp_path / "page.html"
    write(str(file), [task(number) for number in range(TASKS)], since=NOW, now=NOW + timedelta(hours=1))
    browser.get_log("performance")
    browser.get(file.as_uri())
    return browser


def column(browser, number):
    """The text of each cell of a column."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#rows tr')].map(row => row.children[arguments[0]].textContent)", number
    )


def said(browser):
    """The page's count of the tasks that it shows."""
    return browser.find_element("id", "count").text


def test_errors_come_first(shown):
    """The table lists failed tasks first, then active ones, then the rest, over several pages."""
    states = column(shown, 0)
    assert states == ["failed"] * 25 + ["active"] + ["succeeded"] * 74
    assert said(shown) == "250 tasks, errors first"
    assert shown.find_element("id", "codes").text == "QUOTA_EXCEEDED \u00d7 25"
    shown.execute_script("document.getElementById('next').click()")
    assert "Page 2 of 3" in shown.find_element("id", "page").text
    assert set(column(shown, 0)) == {"succeeded"}


def test_columns_sort_both_ways(shown):
    """A click on a column's heading sorts by value, not by text; a second click reverses the order."""
    heads = shown.find_elements("css selector", "#head th")
    bytes_ = [head.text for head in heads].index("Bytes")
    button = heads[bytes_].find_element("tag name", "button")
    shown.execute_script("arguments[0].click()", button)
    assert heads[bytes_].get_attribute("aria-sort") == "descending"
    assert column(shown, bytes_)[0] == "249.0 kB"
    shown.execute_script("arguments[0].click()", button)
    assert heads[bytes_].get_attribute("aria-sort") == "ascending"
    assert column(shown, bytes_)[0] == "0 bytes"


def test_words_are_searched_everywhere(shown):
    """A search finds the tasks that contain all of its words in their state, paths, endpoints, reason or code."""
    field = shown.find_element("id", "find")
    field.send_keys("quota LAPTOP 013")
    assert [text[:12] for text in column(shown, 3)] == ["/data/013.nc"]
    assert said(shown).startswith("1 of 250 tasks")
    shown.find_element("id", "find").clear()
    shown.execute_script("document.getElementById('bad').click()")
    assert said(shown).startswith("25 of 250 tasks")


def test_it_is_used_by_keyboard(shown):
    """The slash key focuses the search; Tab reaches the timeline, keys zoom it, and the table follows."""
    from selenium.webdriver import ActionChains, Keys

    def type_(*keys):
        ActionChains(shown).send_keys(*keys).perform()

    type_("/", "249")
    assert shown.switch_to.active_element.get_attribute("id") == "find"
    assert said(shown).startswith("1 of 250 tasks")
    type_(Keys.BACKSPACE * 3)
    reached = []
    shown.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    for _ in range(40):
        type_(Keys.TAB)
        reached.append(shown.switch_to.active_element.get_attribute("id"))
        if reached[-1] == "lanes":
            break
    assert reached[-1] == "lanes"
    before = shown.find_element("id", "lanes").get_attribute("aria-label")
    type_("+", "+")
    assert int(said(shown).split()[0]) < 100
    assert shown.find_element("id", "lanes").get_attribute("aria-label") != before
    type_(Keys.ARROW_LEFT * 9)
    assert "/data/000.nc" in "".join(column(shown, 3))
    type_("0")
    assert said(shown) == "250 tasks, errors first"


def test_nothing_is_asked_of_a_network_and_nothing_of_others_runs(shown):
    """The page loads nothing else, shows names as text, and logs no errors in the browser."""
    events = [json.loads(entry["message"])["message"] for entry in shown.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert asked == {shown.current_url}
    assert shown.title == "Chiltepin activity"
    assert "<img src=x onerror" in "".join(column(shown, 2))
    assert shown.find_elements("css selector", "#rows img") == []
    assert shown.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_plots_are_drawn_in_the_colours_of_the_scheme(shown, scheme):
    """Both color schemes have their own background, and each plot is drawn in the scheme's blue."""
    shown.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    shown.refresh()
    blue = {"light": [36, 103, 201], "dark": [106, 165, 245]}[scheme]
    counts = shown.execute_script(
        """return [...document.querySelectorAll("canvas")].map((canvas) => {
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let count = 0;
            for (let at = 0; at < data.length; at += 4)
                if (arguments[0].every((part, place) => data[at + place] === part)) count += 1;
            return count;
        })""",
        blue,
    )
    assert len(counts) == 2
    assert min(counts) > 100
    paper = shown.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 27)"}[scheme]


def test_a_phone_does_not_scroll_sideways(shown):
    """On a narrow screen the page fits the width."""
    shown.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        shown.refresh()
        assert shown.execute_script("return document.documentElement.scrollWidth") == 390
    finally:
        shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
