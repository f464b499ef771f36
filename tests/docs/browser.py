"""One headless Chromium, and what it says about a page."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-features=BackForwardCache",  # keeps each page that was left, at some cost
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    # No other host is ever asked; a page that tries to is told on.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SECONDS = 20

# Whether the page can be read, once it has been laid out: the reasons why not.
LOOK = """
const done = arguments[arguments.length - 1], width = arguments[0], found = [];
requestAnimationFrame(() => requestAnimationFrame(() => {
  const heading = document.querySelector("h1");
  if (!heading || !heading.checkVisibility() || !heading.getBoundingClientRect().height)
    found.push("shows no heading");
  const needed = document.documentElement.scrollWidth;
  if (needed > width) {
    const wide = [...document.body.querySelectorAll("*")].find(
      element => element.getBoundingClientRect().right > width);
    found.push(`is ${needed} pixels wide: ${wide ? wide.outerHTML.slice(0, 80) : "?"}`);
  }
  for (const image of document.images)
    if (!image.naturalWidth) found.push(`does not show ${image.src}`);
  done(found);
}));
"""


def find() -> tuple[str, str]:
    """The paths of Chromium and of its driver; without them, nothing goes on."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        sys.exit("No Chromium with its chromedriver is on the PATH: install both to go on.")
    return browser, driver


@dataclass(frozen=True, slots=True)
class Size:
    """The screen of a kind of device, in pixels."""

    name: str
    width: int
    height: int
    mobile: bool


@contextmanager
def browser() -> Iterator["Browser"]:
    """Chromium with an empty profile, until the end of the block."""
    binary, driver = find()
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = binary
        for argument in (*ARGUMENTS, f"--user-data-dir={Path(profile, 'profile')}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        chrome = Chrome(options=options, service=ChromeService(driver))
        try:
            chrome.set_page_load_timeout(SECONDS)
            chrome.set_script_timeout(SECONDS)
            yield Browser(chrome)
        finally:
            chrome.quit()


class Browser:
    """Opens pages, and tells what is wrong with them.

    Attributes:
        driver: the browser itself.
    """

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self._asked: dict[str, str] = {}

    def open(self, address: str, *sizes: Size) -> list[str]:
        """Open a page, and look at it in each size; returns what is wrong with it."""
        self._resize(sizes[0])
        self.driver.get(address)
        wrong = []
        for size in sizes:
            self._resize(size)
            seen = self.driver.execute_async_script(LOOK, size.width)
            wrong += [f"{fault} ({size.name})" for fault in seen]
        return wrong + self.complaints()

    def complaints(self) -> list[str]:
        """The errors of the console, and the requests that failed, since this was last asked."""
        errors = [
            f"says: {entry['message']}"
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]
        entries = self.driver.get_log("performance")
        events = [json.loads(entry["message"])["message"] for entry in entries]
        return [*errors, *self._failures(events)]

    def _failures(self, events: list[dict[str, Any]]) -> Iterator[str]:
        for event in events:
            values = event["params"]
            match event["method"]:
                case "Network.requestWillBeSent":
                    self._asked[values["requestId"]] = values["request"]["url"]
                case "Network.responseReceived" if values["response"]["status"] >= 400:
                    yield f"got {values['response']['status']} for {values['response']['url']}"
                case "Network.loadingFailed" if values["requestId"] in self._asked:
                    yield f"did not get {self._asked[values['requestId']]}: {values['errorText']}"

    def _resize(self, size: Size) -> None:
        screen = {"width": size.width, "height": size.height, "mobile": size.mobile}
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**screen, "deviceScaleFactor": 1}
        )
