"""`python -m tests.docs.browse`: open every page of the built site in headless Chromium.

Each page is looked at in the size of a desktop and in that of a phone: it must show a heading, fit
the width, print no error and get all that it asks for, from its own host alone. Then the search box
is used. The exit code is 1 if something is wrong. `hatch run docs:browse` builds the site before.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from selenium.common.exceptions import NoSuchElementException, NoSuchShadowRootException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from .browser import SECONDS, Browser, Size, browser
from .programs import ROOT

SITE = ROOT / "docs" / "site"
SIZES = (Size("desktop", 1280, 800, mobile=False), Size("phone", 390, 844, mobile=True))
WORD = "advance"

# A page with one of each fault, so that a check that sees nothing is noticed.
FAULTY = """
<!DOCTYPE html>
<title>faulty</title>
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="https://fonts.example/font.css">
<img src="missing.png">
<h1 style="display: none">hidden</h1>
<div style="width: 2000px">wide</div>
<script>throw new Error("thrown")</script>
"""
FAULTS = ("no heading", "pixels wide", "not show", "thrown", "404", "fonts.example")


class Handler(SimpleHTTPRequestHandler):
    """Serves files, and says nothing about it."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a folder is served until the end of the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def unseen(chrome: Browser) -> list[str]:
    """The faults of a faulty page that were not seen."""
    with TemporaryDirectory() as folder:
        Path(folder, "faulty.html").write_text(FAULTY, encoding="utf-8")
        with served(Path(folder)) as address:
            seen = "\n".join(chrome.open(f"{address}/faulty.html", *SIZES))
    return [f"a faulty page: {fault!r} is not in {seen!r}" for fault in FAULTS if fault not in seen]


def look(chrome: Browser, address: str) -> list[str]:
    """What is wrong with the pages of the site."""
    wrong = []
    for page in sorted(SITE.rglob("*.html")):
        name = page.relative_to(SITE).as_posix()
        wrong += [f"{name} {fault}" for fault in chrome.open(f"{address}/{name}", *SIZES)]
    return wrong


def search(chrome: Browser, address: str, size: Size) -> list[str]:
    """What is wrong with the search for a word, which a reader types, and with where it leads."""
    wrong = chrome.open(f"{address}/index.html", size)
    driver = chrome.driver
    wait = WebDriverWait(
        driver, SECONDS, ignored_exceptions=[NoSuchElementException, NoSuchShadowRootException]
    )
    buttons = driver.find_elements(By.CSS_SELECTOR, ".md-search__button, [for=__search]")
    next(button for button in buttons if button.is_displayed()).click()
    box = wait.until(lambda driver: driver.switch_to.active_element.shadow_root)
    wait.until(lambda _: box.find_element(By.CSS_SELECTOR, "input")).send_keys(WORD)
    result = wait.until(lambda _: box.find_element(By.CSS_SELECTOR, "[role=option]"))
    before = driver.current_url
    result.click()
    wait.until(lambda driver: driver.current_url != before)
    if WORD not in driver.find_element(By.TAG_NAME, "main").text:
        wrong.append(f"the search for {WORD!r} leads to {driver.current_url}, which has it not")
    return [f"search ({size.name}): {fault}" for fault in [*wrong, *chrome.complaints()]]


def main() -> int:
    started = perf_counter()
    wrong = []
    with browser() as chrome, served(SITE) as address:
        wrong += unseen(chrome)
        wrong += look(chrome, address)
        for size in SIZES:
            wrong += search(chrome, address, size)
    pages = len(list(SITE.rglob("*.html")))
    for fault in wrong:
        print(fault)
    result = f"{len(wrong)} faults" if wrong else "all is well"
    print(f"{pages} pages, {len(SIZES)} sizes, {perf_counter() - started:.0f} s: {result}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
