"""The checks of ``checks.js`` find what they are there to find: on a page in which everything is wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.conftest import Opened

Open = Callable[..., "AbstractContextManager[Opened]"]

WRONG = """\
<!doctype html><html><body style="background: #fff">
<h2 id="twice">No h1</h2><h4 id="twice">Skipped</h4>
<a href="#nowhere">Lost</a><a href="https://example.org">Away</a><input aria-labelledby="nobody">
<p style="color: #999">Grey on white</p><p style="opacity: .3">Faded</p><p style="width: 2000px">Too wide</p>
<div style="overflow: hidden; width: 200px"><div style="width: 300px">Cut</div></div>
<table><tr><td style="background: #fcc">Red</td></tr></table><details><summary>Closed</summary>Inside</details>
<figure>No picture</figure>
<svg width="120" height="60" aria-label="Short"><text x="5" y="20">One</text><text x="8" y="22">Two</text>
<text x="110" y="50">Cut off</text></svg>
<img src="data:image/png;base64,AAAA" width="120" height="60" alt="A picture that cannot be shown">
<svg width="9" height="9" role="img" aria-label="So small that nobody can see it"><rect width="9" height="9"/></svg>
</body></html>
"""


@pytest.mark.parametrize(
    ("check", "arguments", "complaints"),
    [
        ("figures", (), ("shows no picture", "is not described", "not announced", "is empty", '"One" upon "Two"')),
        ("figures", (), ('cuts "Cut off" off', "is broken", "is 9 by 9")),
        ("widths", (), ("px wide", "to 2008", "is cut off")),
        ("outline", (), ("headings 2,4", "skips a level", "twice occurs twice", "nobody in aria-labelledby", "0 main")),
        ("outline", (), ("leads to #nowhere", "leads to https://example.org", "no language or no title")),
        ("contrasts", (4.5,), ('"Grey on white" has 2.85', '"Faded" has 2.11')),
        ("unprintable", (), ("of no use on paper", "is closed", 'colour of <td> "Red" is not printed')),
    ],
)
def test_what_is_wrong_is_found(
    opened: Open, tmp_path: Path, check: str, arguments: tuple[float, ...], complaints: tuple[str, ...]
) -> None:
    page = tmp_path / "wrong.html"
    page.write_text(WRONG, encoding="utf-8")
    with opened(page) as seen:
        found = seen.check(check, *arguments)
        for complaint in complaints:
            assert any(complaint in one for one in found), (complaint, found)


def test_scripts_requests_and_dialogs_are_noticed(opened: Open, tmp_path: Path) -> None:
    page = tmp_path / "loud.html"
    page.write_text(
        '<img src="https://example.org/x.png"><script>alert(1); console.warn("loud"); undefined.lost</script>',
        encoding="utf-8",
    )
    with opened(page) as seen:
        assert any(one == "dialog: 1" for one in seen.complaints)
        assert any(one == "warning: loud" for one in seen.complaints)
        assert any(one.startswith("error: ") and "lost" in one for one in seen.complaints)
        assert "https://example.org/x.png" in seen.requests
