"""What every report must be in a real browser: quiet, whole, and readable at any width, in the dark and on paper."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from tests.browser.conftest import Opened

Find = Callable[[str], Path]
Open = Callable[..., "AbstractContextManager[Opened]"]

PHONE, DESK, PAPER = 380, 1000, 718
"""Widths in px: of a phone, of a window, and of what the margins leave of an A4 page."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LEAST_CONTRAST = 4.5
HEADLINES = {"failing": "FAIL: ", "inconclusive": "INCONCLUSIVE: ", "empty": "INCONCLUSIVE: ", "invalid": "INVALID: "}
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
    # It takes longest, and gives up on pictures: `checks.contrasts` measures every text.
    "rules": {"color-contrast": {"enabled": False}},
}


def test_a_report_is_whole_and_quiet(report: Find, opened: Open, kind: str, tmp_path: Path) -> None:
    path = report(kind)
    assert path.stat().st_size < 5_000_000
    with opened(path, PHONE) as seen:
        page = seen.page
        assert page.title().startswith(HEADLINES.get(kind, ""))
        for folded in (True, False):
            for scheme, width in product(SCHEMES, (PHONE, DESK)):
                page.emulate_media(color_scheme=scheme)
                page.set_viewport_size({"width": width, "height": 800})
                # Colours are those of a scheme at any width, and places those of a width in any scheme.
                if scheme == "light":
                    assert seen.check("widths") == []
                    assert seen.check("figures") == []
                if width == DESK:
                    assert seen.check("contrasts", LEAST_CONTRAST) == []
                if folded and (scheme == "dark") == (width == PHONE):  # two pictures to be looked at
                    picture = tmp_path / f"{kind}-{width}-{scheme}.jpg"
                    page.screenshot(path=picture, full_page=True, type="jpeg", quality=70)
            page.evaluate("checks.unfold()")
        assert page.locator("figure").count() >= {"invalid": 0, "empty": 1}.get(kind, 8)
        assert seen.complaints == []
        assert seen.requests == [path.as_uri()]


@pytest.mark.parametrize("kind", ["sample"])
def test_tables_are_shown_whole(report: Find, opened: Open, kind: str) -> None:
    with opened(report(kind), DESK) as seen:
        seen.page.evaluate("checks.unfold()")
        assert seen.page.locator(".scroll").count() > 20
        for length, room in (("scrollHeight", "clientHeight"), ("scrollWidth", "clientWidth")):
            hidden = f"[...document.querySelectorAll('.scroll')].filter((one) => one.{length} > one.{room} + 1)"
            assert seen.page.evaluate(f"{hidden}.map((one) => one.ariaLabel)") == []


def test_a_report_has_an_outline_and_no_loose_ends(report: Find, opened: Open, kind: str) -> None:
    with opened(report(kind)) as seen:
        assert seen.check("outline") == []


@pytest.mark.parametrize("kind", ["sample", "empty", "invalid"])
def test_a_report_passes_the_rules_of_accessibility(report: Find, opened: Open, kind: str) -> None:
    with opened(report(kind), PHONE) as seen:
        seen.page.evaluate("checks.unfold()")
        found = Axe().run(seen.page, options=RULES)
        assert found.violations_count == 0, found.generate_report()


def test_a_report_can_be_printed_whole(report: Find, opened: Open, kind: str, tmp_path: Path) -> None:
    with opened(report(kind), PAPER) as seen:
        words = seen.page.evaluate("checks.words()")
        seen.page.emulate_media(media="print")
        seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert seen.check("widths") == []
        assert seen.check("unprintable") == []
        assert seen.check("figures") == []
        assert seen.check("contrasts", LEAST_CONTRAST) == []
        assert seen.page.evaluate("checks.words()") >= words > 20  # what is folded on a screen comes on top
        seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
        printed = seen.page.pdf(path=tmp_path / f"{kind}.pdf", format="A4")
        assert len(printed) > 10_000


@pytest.mark.parametrize("kind", ["sample", "invalid"])
def test_a_report_is_whole_without_scripts(report: Find, opened: Open, kind: str) -> None:
    path = report(kind)
    with opened(path) as seen:
        seen.page.evaluate("checks.unfold()")
        # What scripts make, and do, is not there without them.
        seen.page.evaluate("document.querySelectorAll('#paths-over-time, .copy').forEach((one) => one.remove())")
        words = seen.page.locator("main").inner_text()
    with opened(path, java_script_enabled=False) as still:
        assert still.requests == [path.as_uri()]
        assert [one for one in still.complaints if "script" not in one.lower()] == []
        for offered in still.page.get_by_role("button", name="CSV").all() + still.page.get_by_role("slider").all():
            assert not offered.is_visible()
        for summary in still.page.locator("summary").all():
            if summary.locator("..").get_attribute("open") is None:
                summary.click()
        alone = still.page.locator("main").inner_text()
    missing = set(words.split()) - set(alone.split())
    assert not missing


def test_markup_in_names_is_shown_as_text(report: Find, opened: Open, hostile_names: tuple[str, ...]) -> None:
    with opened(report("hostile")) as seen:
        seen.page.evaluate("checks.unfold()")
        words = seen.page.locator("main").inner_text()
        assert [name for name in hostile_names if name not in words] == []
        assert seen.page.locator("img").count() == 0
        assert seen.complaints == []


def test_markup_in_what_is_wrong_with_a_run_is_shown_as_text(
    report: Find, opened: Open, hostile_names: tuple[str, ...]
) -> None:
    with opened(report("invalid")) as seen:
        assert hostile_names[0] in seen.page.locator("main").inner_text()
        assert seen.page.locator("img").count() == 0
        assert seen.complaints == []
