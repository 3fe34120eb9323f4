"""What a reader does with a report: copies tables, asks what words mean, moves through time, goes by keyboard."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.browser.conftest import Opened

Find = Callable[[str], Path]
Open = Callable[..., "AbstractContextManager[Opened]"]

CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}
NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', { value: undefined })"
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?%?")
FORMULA = tuple("=+-@\t\r")


def copies(page: Page) -> list[Locator]:
    return page.get_by_role("button", name="Copy as CSV").all()


def plain(text: str) -> str:
    """A text without what a copy may change: spaces, minus signs, thousands, and the mark against formulas."""
    return re.sub(r"[\s,;']", "", text.replace("\N{MINUS SIGN}", "-"))


@pytest.mark.parametrize("kind", ["sample", "hostile"])
def test_every_table_is_copied_as_csv(report: Find, opened: Open, kind: str) -> None:
    with opened(report(kind), **CLIPBOARD) as seen:
        tables = seen.page.evaluate("checks.copies()")
        assert len(tables) == seen.page.locator("table").count() > 10
        assert len({one["name"] for one in tables}) == len(tables)
        assert seen.complaints == []
    for one in tables:
        rows = list(csv.reader(StringIO(one["csv"], newline=""), strict=True))
        assert one["csv"].endswith("\r\n")
        assert len(rows) == len(one["rows"])
        assert len({len(row) for row in rows}) == 1
        for row, shown in zip(rows[1:], one["rows"][1:], strict=True):
            assert plain("".join(row)) == plain("".join(shown))
        for cell in {cell for row in rows for cell in row if cell.startswith(FORMULA)}:
            assert NUMBER.fullmatch(cell)


def test_a_table_is_copied_where_the_clipboard_is_out_of_reach(report: Find, opened: Open) -> None:
    with opened(report("sample"), **CLIPBOARD) as seen:
        page, button = seen.page, copies(seen.page)[0]
        copied = page.get_by_role("status").filter(has_text="Copied")
        button.click()
        copied.wait_for(state="attached")
        expected = page.evaluate("navigator.clipboard.readText()")
        page.evaluate("navigator.clipboard.writeText('something else')")
        page.evaluate(NO_CLIPBOARD)
        button.focus()
        page.keyboard.press("Enter")
        # Pasting is how a reader would find out what was copied.
        page.evaluate("document.body.append(Object.assign(document.createElement('textarea'), { id: 'pasted' }))")
        page.locator("#pasted").focus()
        page.keyboard.press("Control+V")
        assert page.locator("#pasted").input_value() == expected.replace("\r\n", "\n")
        assert "\n" in expected


def within(page: Page, bubble: Locator) -> bool:
    """Whether all of an element is inside the window."""
    box = bubble.bounding_box()
    size = page.viewport_size
    assert box is not None
    assert size is not None
    inside = box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
    return inside and box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


def bubble_of(page: Page, tip: Locator) -> Locator:
    return page.locator(f"[id='{tip.get_attribute('popovertarget')}']")


def some_tips(page: Page) -> list[Locator]:
    """Return tips from all over the page, the widest places among them."""
    page.evaluate("checks.unfold()")
    tips = [one for one in page.locator(".tip").all() if one.is_visible()]
    assert len(tips) > 30
    return tips[:: len(tips) // 12]


@pytest.mark.parametrize("width", [380, 1000])
def test_a_word_is_explained_on_hover_and_by_keyboard(report: Find, opened: Open, width: int) -> None:
    with opened(report("sample"), width) as seen:
        page = seen.page
        for tip in some_tips(page):
            bubble = bubble_of(page, tip)
            tip.hover()
            assert bubble.is_visible()
            assert len(bubble.inner_text()) > 20
            assert within(page, bubble)
            page.mouse.move(0, 0)
            assert not bubble.is_visible()
            tip.focus()
            assert bubble.is_visible()
            assert within(page, bubble)
            page.keyboard.press("Escape")
            assert not bubble.is_visible()
        assert seen.complaints == []


def test_a_word_is_explained_at_a_tap(report: Find, opened: Open) -> None:
    with opened(report("sample"), 380, has_touch=True, is_mobile=True) as seen:
        page = seen.page
        for tip in some_tips(page):
            bubble = bubble_of(page, tip)
            tip.tap()
            assert bubble.is_visible()
            assert within(page, bubble)
        page.locator("h1").tap()
        assert page.locator(":popover-open").count() == 0
        assert seen.complaints == []


@pytest.mark.parametrize("kind", ["sample", "hostile"])
def test_paths_are_walked_through_by_keyboard(report: Find, opened: Open, kind: str) -> None:
    with opened(report(kind), 380, "dark") as seen:
        page = seen.page
        slider = page.get_by_role("slider")
        assert slider.count() == 1
        figure = page.locator("figure", has=slider)
        slider.focus()
        told, drawn = [], []
        for key in ("Home", "ArrowRight", "ArrowRight", "End", "ArrowLeft"):
            page.keyboard.press(key)
            told.append(figure.locator("output").inner_text())
            drawn.append(figure.locator("svg").inner_html())
        assert len(set(told)) == len(set(drawn)) == 5
        last = slider.get_attribute("max")
        assert last is not None
        assert 10 <= int(last) < 500
        assert told[3].startswith(f"{int(last) + 1} of {int(last) + 1}. ")
        assert slider.get_attribute("aria-valuetext") is not None
        assert all(re.search(r"\d{4}-\d\d-\d\d", one) for one in told)
        assert seen.check("figures") == []
        assert seen.check("contrasts", 4.5) == []
        assert seen.complaints == []


def test_the_keyboard_leads_past_the_contents_and_everywhere(report: Find, opened: Open) -> None:
    with opened(report("sample")) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        focused = page.locator("a:focus")
        assert focused.is_visible()
        page.keyboard.press("Enter")
        assert page.locator("main:target, main :target").count() == 1
        order = []
        for _ in range(60):
            page.keyboard.press("Tab")
            order.append(page.evaluate("checks.focused()"))
        assert len({one["place"] for one in order}) == 60
        assert [one for one in order if one["outline"] == "none" and one["shadow"] == "none"] == []


def test_every_entry_of_the_contents_leads_to_a_heading(report: Find, opened: Open) -> None:
    with opened(report("sample"), 380) as seen:
        links = seen.page.get_by_role("navigation").get_by_role("link").all()
        assert len(links) > 8
        for link in links:
            link.click()
            there = seen.page.locator(":target")
            assert there.is_visible()
            box = there.bounding_box()
            assert box is not None
            assert -1 <= box["y"] < 800


def test_an_account_leads_to_its_strategy_folded_or_not(report: Find, opened: Open) -> None:
    with opened(report("sample"), 380) as seen:
        page = seen.page
        links = page.locator(".accounts").get_by_role("link").all()
        assert len(links) > 1
        for link in links:
            name = link.inner_text()
            link.click()
            fold = page.locator("details.strategy", has=page.locator(":target"))
            assert fold.locator("> summary b").inner_text() == name
            assert fold.get_attribute("open") is not None
            box = fold.locator("> summary").bounding_box()
            assert box is not None
            assert -1 <= box["y"] < 800
        assert seen.complaints == []
