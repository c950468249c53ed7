"""A site that changes: a tab is of one version whole, and a version that is not whole changes nothing."""

from __future__ import annotations

import pytest
from support.site import OPEN, browser, kept, runtime_folder, served

import audiorep

pytestmark = pytest.mark.slow


def test_a_page_that_is_opened_gets_the_latest_version_and_goes_on_with_it(playwright, tmp_path):
    place, runtime = tmp_path / "site", runtime_folder()
    audiorep.web("esc50", place, runtime=runtime)
    with served(place) as address, browser(playwright) as chromium:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(address)
        assert page.evaluate(OPEN) == ["esc50"]
        kept(page, 1)
        page.reload()
        audiorep.web(["nano"], place, runtime=runtime)
        page.evaluate("navigator.serviceWorker.ready.then((registration) => registration.update()).then(() => undefined)")
        kept(page, 1, "models/nano.onnx.gz")
        other = context.new_page()
        other.goto(address)
        assert other.evaluate(OPEN) == ["nano"]
        assert page.evaluate(OPEN) == ["esc50"]  # a page and its worker load what is of their own version
        page.reload()
        assert page.evaluate(OPEN) == ["nano"]


def test_a_half_copied_version_changes_nothing(playwright, tmp_path):
    place = tmp_path / "site"
    runtime = runtime_folder()
    audiorep.web("esc50", place, runtime=runtime)
    old = (place / "models.json").read_bytes()
    with served(place) as address, browser(playwright) as chromium:
        page = chromium.new_context().new_page()
        page.goto(address)
        page.evaluate(OPEN)
        kept(page, 1)
        audiorep.web(["esc50", "nano"], place, runtime=runtime)
        (place / "models.json").write_bytes(old)
        failed = "navigator.serviceWorker.ready.then((r) => r.update()).then((r) => new Promise((resolve) => "
        failed += "r.installing.onstatechange = (event) => resolve(event.target.state)))"
        assert page.evaluate(failed) == "redundant"
        page.reload()
        assert page.evaluate(OPEN) == ["esc50"]
