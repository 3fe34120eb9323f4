from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from itertools import product

import pytest

from qtrade.report.environment import SCRIPTS, environment, policy, prose, script
from qtrade.report.text import typeset

STYLE = environment().from_string('{% include "style.css" %}').render()
TEXTS = ("ink", "muted", "model", "other", "good", "bad", "open")
GROUNDS = ("paper", "card")


def schemes() -> dict[str, dict[str, str]]:
    """Colours of the page by the names of their variables: in light, in the dark and on paper."""
    blocks = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", one)) for one in re.findall(r":root \{(.*?)\}", STYLE, re.S)
    ]
    light, dark, paper = blocks
    return {"light": light, "dark": {**light, **dark}, "print": {**light, **paper}}


def luminance(colour: str) -> float:
    """Relative luminance of a colour (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(colour: str, ground: str, share: float) -> str:
    pairs = [(int(colour[place : place + 2], 16), int(ground[place : place + 2], 16)) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(share * one + (1 - share) * other):02x}" for one, other in pairs)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_every_text_stands_out_from_its_ground(scheme: str) -> None:
    colours = schemes()[scheme]
    pairs = [*product(TEXTS, GROUNDS), *((name, f"{name}-wash") for name in ("good", "bad", "open"))]
    pairs += [(name, f"{wash}-wash") for name, wash in product(("ink", "muted"), ("good", "bad", "open"))]
    for text, ground in pairs:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_numbers_in_heat_maps_stand_out_from_every_shade(scheme: str) -> None:
    colours = schemes()[scheme]
    shades = re.findall(r"\.up\d \{ background: color-mix\(in srgb, var\(--up\) (\d+)%, var\(--card\)\)", STYLE)
    assert len(shades) == 4
    for way, share in product(("up", "down"), shades):
        assert contrast(colours["ink"], mixed(colours[way], colours["card"], int(share) / 100)) >= 4.5, (way, share)


def test_the_policy_names_every_script_of_the_page_and_nothing_else() -> None:
    told = policy(*SCRIPTS)
    hashes = [base64.b64encode(hashlib.sha256(script(name).encode()).digest()).decode() for name in SCRIPTS]
    assert re.findall(r"'sha256-([^']+)'", told) == hashes
    assert "'unsafe-inline'" not in told.partition("script-src")[2].partition(";")[0]
    assert "default-src 'none'" in told
    assert "script-src" not in policy()
    with pytest.raises(ValueError, match=r"none of page\.js"):
        policy("other.js")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_small_and_loadable_from_within_a_page(name: str) -> None:
    written = resources.files("qtrade.report").joinpath(name).read_text("utf-8")
    shipped = script(name)
    assert "</script" not in shipped.lower()
    assert "<!--" not in shipped
    assert "\r" not in shipped
    assert len(shipped) < 8_000
    # Only whole lines of comment are left out.
    assert [line for line in written.splitlines() if line not in shipped.splitlines()] == [
        line for line in written.splitlines() if line.lstrip().startswith("//")
    ]
    assert not re.search(r"\b(eval|innerHTML|document\.write|fetch|XMLHttpRequest|import)\b", shipped)


def test_sentences_are_set_as_the_report_writes() -> None:
    text = "R2 -0.120 against [-0.1, -2], on 2020-01-02, with x-1 and R20; type `qtrade run <x>`"
    assert typeset(text) == (
        "R² \N{MINUS SIGN}0.120 against [\N{MINUS SIGN}0.1, \N{MINUS SIGN}2], on 2020-01-02, with x-1 and R20; "
        "type `qtrade run <x>`"
    )
    assert prose(text).endswith("type <code>qtrade run &lt;x&gt;</code>")
    assert "<script" not in prose("`<script>` and <script>")
