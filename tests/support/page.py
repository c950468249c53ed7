"""The page in a browser, as a person uses it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from support import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGE = ROOT / "audiorep" / "serve" / "page"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
]
REFUSED_FILE = "status of 422"  # what a browser says itself of an answer that is an error
_MILLISECONDS = 30_000  # that an element may take to appear


def opened(browser: Any, url: str, **options: Any) -> Any:
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
    page.complaints, page.asked = [], []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("websocket", lambda socket: page.asked.append(socket.url))
    page.set_default_timeout(_MILLISECONDS)
    page.goto(url)
    page.locator("body[data-ready]").wait_for()
    return page


def give(page: Any, *paths: Path) -> None:
    """Gives files to the page as the button does."""
    page.set_input_files("#picker", list(paths))


def drop(page: Any, *files: Path) -> None:
    """Drops files on the page."""
    data = [(path.name, list(path.read_bytes())) for path in files]
    transfer = page.evaluate_handle(
        """(files) => {
          const transfer = new DataTransfer();
          for (const [name, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
          return transfer;
        }""",
        data,
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def rows(page: Any) -> list[list[str]]:
    """The table of events."""
    return [row.locator("td").all_inner_texts() for row in page.locator("#events tr").all()]


def seconds(page: Any) -> float:
    """Where the playhead is."""
    minutes, rest = page.locator("#time").inner_text().split(" / ")[0].split(":")
    return 60 * int(minutes) + float(rest)


def saved(page: Any, name: str) -> tuple[str, str]:
    """The name and the content of a file that a button saves."""
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes().decode()
