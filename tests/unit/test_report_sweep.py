from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.report import heatmap
from qtrade.report.sweep import audit, judge, render, setting, write_sweep
from qtrade.report.text import UNKNOWN
from qtrade.types import Float64Array

EVIL = "<script>alert('x')</script>"
VOID = {"meta", "br", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects what a page shows and could load, and checks that elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href", "action", "data"):
                self.links.append(value or "")
            assert not name.startswith("on")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def made(
    axes: Mapping[str, Sequence[Any]],
    sharpe: Callable[..., float] = lambda **values: float(len(repr(values))),
    **other: Any,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Make what a sweep over all combinations found, from the Sharpe ratio of each."""
    table = pd.DataFrame([dict(zip(axes, one, strict=True)) for one in product(*axes.values())])
    table["sharpe"] = [sharpe(**dict(zip(axes, one, strict=True))) for one in product(*axes.values())]
    table = table.assign(
        gross_annual_return=0.2, cost_annual=0.04, net_annual_return=0.16, annual_volatility=0.15, max_drawdown=0.3,
        turnover_per_year=20.0, exposure=0.5, fills=123, ruined=False,
    )  # fmt: skip
    best = json.loads(table.sort_values("sharpe", ascending=False).iloc[0].to_json())
    params = {name: best.pop(name) for name in axes}
    best |= {"spec": "mine:best", "params": params, "sharpe_low": 0.2, "sharpe_high": 2.1}
    block = {"first": "2016-01-04", "last": "2016-12-30", "chosen": params}
    told = {
        "run": "gspc-1a2b3c4d",
        "strategy": "mine",
        "spec": "mine",
        "axes": [{"name": name, "values": list(values)} for name, values in axes.items()],
        "variants": len(table),
        "bars": 2512,
        "first": "2015-01-02 00:00:00+00:00",
        "last": "2024-12-31 15:30:00+00:00",
        "engine": "rust",
        "audited": 1,
        "account": "Orders are filled at the next open.",
        "best": best,
        "buy_and_hold": {"sharpe": 0.71, "net_annual_return": 0.118},
        "median_sharpe": 0.3,
        "luck": {
            "trials": 1044,
            "psr_probability": 0.9996,
            "dsr_probability": 0.43,
            "min_track_record_years": 4.3,
            "expected_best_sharpe": 1.41,
        },
        "pbo_share": 0.46,
        "pbo_blocks": 16,
        "walk_forward": {
            "sharpe": 0.21,
            "sharpe_low": -0.4,
            "sharpe_high": 0.85,
            "net_annual_return": 0.03,
            "mean_rank_share": 0.52,
            "blocks": [block | {"sharpe_before": 1.1, "sharpe_in": -0.2, "rank_share": 0.35, "best_sharpe_in": 2.2}],
        },
    }
    return told | other, table


def grid(threshold: float, step: int) -> float:
    return 1.0 - 100 * threshold - 0.01 * step


TWO: dict[str, Sequence[Any]] = {"threshold": [0.0, 0.001, 0.002], "step": [1, 6]}


def evidence(chance: float | None, low: float | None) -> dict[str, Any]:
    told, _ = made(TWO, grid)
    told["luck"]["dsr_probability"] = chance
    told["walk_forward"] = None if low is None else told["walk_forward"] | {"sharpe_low": low}
    return told


@pytest.mark.parametrize(
    ("chance", "low", "headline"),
    [
        (0.95, 0.01, "The best may be more than luck"),
        (0.9499, -0.01, "Nothing here is better than luck"),
        (0.2, 0.0, "Nothing here is better than luck"),
        (0.99, 0.0, "Cannot tell"),
        (0.94, 0.3, "Cannot tell"),
        (None, 0.3, "Cannot tell"),
        (0.99, None, "Cannot tell"),
    ],
)
def test_only_both_tests_together_speak_for_more_than_luck(
    chance: float | None, low: float | None, headline: str
) -> None:
    assert judge(evidence(chance, low)).headline == headline


def test_the_verdict_holds_the_best_against_the_luckiest() -> None:
    told, _ = made(TWO, grid)
    verdict = judge(told)
    assert verdict.line == (
        "The best of 6 variants has a Sharpe ratio of 0.99 [0.20,\N{NO-BREAK SPACE}2.10]; "
        "the luckiest of 1,044 useless trials would show 1.41."
    )
    reasons = " ".join(verdict.reasons)
    assert "is 43.0% (deflated" in reasons
    assert "ranked above 52% of all" in reasons
    assert "In 46% of the ways to cut the period into two halves of 8 blocks each" in reasons


@pytest.mark.parametrize(
    ("chance", "text"), [(0.94999, "is 94.9% ("), (0.99999, "is 99.9% ("), (0.0001, "is below\N{NO-BREAK SPACE}0.1% (")]
)
def test_a_chance_is_never_rounded_over_a_threshold(chance: float, text: str) -> None:
    assert text in judge(evidence(chance, -1.0)).reasons[0]


def test_the_page_stands_alone_and_shows_what_was_found(tmp_path: Path) -> None:
    told, table = made(TWO, grid)
    write_sweep(tmp_path / "sweep.html", told, table)
    text = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("script") == 1
    assert "link" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert "default-src 'none'" in text
    words = " ".join(page.words)
    for part in (
        "Nothing here is better than luck",
        "variants.csv",
        "filled at the next open",
        "rust engine",
        "+11.8%",
    ):
        assert part in words
    assert render(told, table) == text


def test_texts_from_outside_are_escaped() -> None:
    told, table = made(
        {EVIL: ["a", EVIL], "step": [1, 2, 3]}, lambda **values: float(values["step"]), strategy=EVIL, account=EVIL
    )
    page = Page(render(told, table))
    assert page.tags.count("script") == 1
    assert EVIL in "".join(page.words)


@pytest.mark.parametrize(
    ("axes", "maps"),
    [
        ({"threshold": [0.1]}, 0),
        ({"threshold": [0.1, 0.2], "short": [True]}, 0),
        ({"short": [True, False], "exit": ["none", "stop"]}, 1),
        ({"a": [1, 2], "b": [0.5, 1.0], "c": [True, False]}, 3),
        ({name: [1, 2] for name in "abcde"}, 6),
    ],
    ids=["one variant", "one axis", "no numbers", "three axes", "five axes"],
)
def test_every_pair_of_parameters_has_a_map_up_to_six(axes: Mapping[str, Sequence[Any]], maps: int) -> None:
    told, table = made(axes)
    text = render(told, table)
    assert len(re.findall(r"<b>\S+ \(down\) and \S+ \(across\)</b>", text)) == maps
    assert ("Sharpe ratio by threshold" in text) == (axes.keys() == {"threshold", "short"})


def test_the_parameters_that_move_most_are_mapped() -> None:
    told, table = made({name: [1, 2] for name in "abcde"}, lambda **values: values["b"] * 5.0 + values["e"])
    table.loc[table["d"] == 1, "sharpe"] += 0.1
    table.loc[table["a"] == 1, "sharpe"] += 0.2
    assert "the 4 that move it most are shown: a, b, d, e." in render(told, table)


def test_a_cell_is_the_mean_over_the_other_parameters() -> None:
    told, table = made({"a": [1, 2], "b": [1, 2], "c": [1, 2]}, lambda a, b, c: a + 0.1 * b + 0.25 * c)
    text = render(told, table)
    first = re.search(r"<b>a \(down\) and b \(across\).*?</svg>", text, flags=re.DOTALL)
    assert first is not None
    # 0.25 c averages to 0.375.
    values = re.findall(r'class="value"[^>]*>([\d.]+)<', first.group())
    assert sorted(float(one) for one in values) == pytest.approx([1.475, 1.575, 2.475, 2.575], abs=0.006)
    assert "mean Sharpe ratio over all values of the other parameters" in text


def test_words_go_down_and_the_longer_axis_across() -> None:
    told, table = made({"exit": ["z", "a", "m", "k"], "step": [6, 1]})
    assert "<b>exit (down) and step (across)</b>" in render(told, table)
    told, table = made({"threshold": [0.3, 0.1, 0.2], "step": [6, 1]})
    text = render(told, table)
    assert "<b>step (down) and threshold (across)</b>" in text
    assert re.findall(r'class="across"[^>]*>(0\.\d)<', text) == ["0.1", "0.2", "0.3"]


def surface(values: Float64Array, marked: tuple[int, int] = (0, 0)) -> heatmap.Surface:
    rows, columns = values.shape
    return heatmap.Surface(
        values, tuple(f"r{one}" for one in range(rows)), tuple(f"c{one}" for one in range(columns)), marked
    )


def shades(drawn: str) -> dict[str, float]:
    """Area of each shade, in cells."""
    found = re.findall(r'<path class="(\w\d?)" d="([^"]+)"', drawn)
    return {kind: sum(float(length) for length in re.findall(r"h(\d+)v", path)) for kind, path in found}


def test_every_cell_is_shaded_once_by_its_sign_and_size() -> None:
    values = np.array([[2.0, 2.0, -2.0], [0.01, np.nan, -50.0]])
    assert shades(heatmap.heat_map(surface(values), 2.0, "")) == {"p8": 2, "n8": 2, "z": 1, "u": 1}


def test_shades_cover_large_maps_completely() -> None:
    values = np.random.default_rng(0).standard_normal((40, 70))
    drawn = heatmap.heat_map(surface(values), 2.0, "")
    found = shades(drawn)
    assert sum(found.values()) == values.size
    positive = sum(area for kind, area in found.items() if kind.startswith("p"))
    assert positive == (np.round(values * 4) > 0).sum()
    assert 'class="value"' not in drawn


def test_numbers_are_written_where_they_fit() -> None:
    values = np.full((heatmap.MOST_NUMBERED, heatmap.MOST_NUMBERED), -0.001)
    drawn = heatmap.heat_map(surface(values), 2.0, "")
    assert set(re.findall(r'class="value"[^>]*>([^<]+)<', drawn)) == {"0.0"}
    assert 'class="value"' not in heatmap.heat_map(surface(np.vstack([values, values[:1]])), 2.0, "")


def test_the_outline_is_around_the_marked_cell_and_never_too_small_to_see() -> None:
    for count, marked in ((4, (2, 3)), (100, (57, 3))):
        drawn = heatmap.heat_map(surface(np.ones((count, count)), marked), 2.0, "")
        box = re.search(r'class="best" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', drawn)
        place = re.search(r"translate\(([\d.]+) 2\) scale\(([\d.]+) ([\d.]+)\)", drawn)
        assert box is not None
        assert place is not None
        x, y, width, height = map(float, box.groups())
        left, across, down = map(float, place.groups())
        assert x + width / 2 == pytest.approx(left + (marked[1] + 0.5) * across, abs=0.2)
        assert y + height / 2 == pytest.approx(2 + (marked[0] + 0.5) * down, abs=0.2)
        assert min(width, height) >= 10


@pytest.mark.parametrize("count", [3, 13, 60, 100, 317])
def test_labels_do_not_overlap(count: int) -> None:
    names = tuple(f"{0.001 * one:.4f}" for one in range(count))
    drawn = heatmap.heat_map(heatmap.Surface(np.ones((count, count)), names, names, (0, 0)), 2.0, "")
    across = [float(x) for x in re.findall(r'class="across" x="([\d.]+)"', drawn)]
    down = [float(y) for y in re.findall(r'class="down" x="[\d.]+" y="([\d.]+)"', drawn)]
    assert min(np.diff(across)) >= 6 * 7
    assert min(np.diff(down)) >= 12
    assert min(len(across), len(down)) >= 3


def test_a_few_ruinous_corners_do_not_bleach_the_rest() -> None:
    told, table = made(TWO, lambda threshold, step: -80.0 if step == 6 and threshold == 0 else 1.0)
    text = render(told, table)
    assert "Shades from -2.0 to 2.0" in text
    assert "Beyond 2 on either side of zero the shade no longer deepens" in text
    assert 'class="p4"' in text


def test_what_is_not_known_is_left_out() -> None:
    told, table = made(TWO, grid)
    table["sharpe"] = np.nan
    told |= {"walk_forward": None, "pbo_share": None, "median_sharpe": None}
    told["luck"] = dict.fromkeys(told["luck"]) | {"trials": 6}
    told["best"] |= {"sharpe": None, "sharpe_low": None, "sharpe_high": None}
    told["buy_and_hold"] = {"sharpe": None, "net_annual_return": None}
    page = " ".join(Page(render(told, table)).words)
    assert "Cannot tell" in page
    assert f"Sharpe ratio of {UNKNOWN}" in page
    assert "No variant has a Sharpe ratio" in page
    assert "too short to choose" in page
    assert "nan" not in page
    assert "None" not in page


def test_variants_without_a_sharpe_ratio_are_grey_and_listed_last() -> None:
    told, table = made({"a": [1, 2], "b": [1, 2, 3]}, lambda a, b: math.nan if a == 1 else float(b))
    table.loc[table["a"] == 1, "ruined"] = True
    text = render(told, table)
    assert shades(text.split("(across)</b>")[1])["u"] == 3
    assert "no Sharpe ratio" in text
    assert "3 variants lost the whole account" in text
    ranks = re.findall(r'<th scope="row" class="bad">(\d)', text)
    assert ranks == ["4", "5", "6"]


def test_the_top_lists_fifteen_of_many_the_best_first() -> None:
    told, table = made({"a": list(range(200))}, lambda a: -abs(a - 120.0))
    text = render(told, table)
    assert "<h2>The top 15</h2>" in text
    rows = re.findall(r'<tr><th scope="row" class="">\s*(\d+)</th><td class="">\s*(\d+)</td>', text)
    assert [rank for rank, _ in rows] == [str(rank) for rank in range(1, 16)]
    assert rows[0][1] == "120"
    assert {int(value) for _, value in rows} == set(range(113, 128))


@pytest.mark.parametrize(
    ("audited", "text"),
    [
        (0, "No variant was checked"),
        (1, "1 of the 6 variants, the best among them, was checked"),
        (4, "4 of the 6 variants, the best among them, were checked"),
        (6, "Every variant was checked"),
    ],
)
def test_the_number_of_audited_variants_is_told(audited: int, text: str) -> None:
    assert audit(audited, 6, "rust")[0].startswith(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (np.False_, "no"),
        (np.int64(12_345_678), "12345678"),
        (0.1 + 0.2, "0.3"),
        (-0.5, "\N{MINUS SIGN}0.5"),
        ("trend", "trend"),
    ],
)
def test_settings_are_written_as_they_are_typed(value: object, text: str) -> None:
    assert setting(value) == text


def test_ten_thousand_variants_make_a_small_page() -> None:
    axes: dict[str, Sequence[Any]] = {
        "threshold": [one / 1000 for one in range(100)],
        "stop": [one / 10 for one in range(100)],
    }
    noise = iter(np.random.default_rng(0).standard_normal(10_000))
    told, table = made(axes, lambda **_: float(next(noise)))
    assert len(render(told, table)) < 400_000
