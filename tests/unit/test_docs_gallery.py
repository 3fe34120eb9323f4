"""The gallery is what its benchmark makes: the page, its pictures, and commands that qtrade understands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from subprocess import CompletedProcess

import gallery
import pytest
import typer

from qtrade.cli import app
from qtrade.config import load_config
from qtrade.data.synthetic import SCENARIOS, SyntheticConfig

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PALETTE = 3
"""Type of colours in a PNG's header (ISO/IEC 15948, section 11.2.2)."""


def test_the_page_is_the_one_the_benchmark_writes() -> None:
    assert (DOCS / "gallery.md").read_text(encoding="utf-8") == gallery.document()


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#([\w-]+))?\)", gallery.document())
    assert len(links) > len(gallery.ENTRIES)
    for path, anchor in links:
        target = DOCS / path
        assert target.is_file(), path
        assert not anchor or f"## {anchor.replace('-', ' ')}" in target.read_text(encoding="utf-8").lower()


def test_there_is_a_small_picture_of_every_report_and_no_other() -> None:
    pictures = sorted((DOCS / "gallery").iterdir())
    assert [path.name for path in pictures] == sorted(f"{one.name}.png" for one in gallery.ENTRIES)
    for path in pictures:
        content = path.read_bytes()
        assert len(content) <= gallery.MOST_BYTES == 120 * 1024
        assert content[25] == PALETTE, path.name


@pytest.mark.parametrize("entry", gallery.ENTRIES, ids=lambda one: str(one.name))
def test_the_command_of_a_report_can_be_typed(entry: gallery.Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, name, *words = shlex.split(entry.command)
    assert (program, name) == ("qtrade", "run")
    group = typer.main.get_group(app)
    given = group.commands[name].make_context(name, words).params
    symbols = {"data": {"symbols": given["arguments"]}} if given["arguments"] else {}
    config = load_config(given["config"], given["settings"] or (), **symbols)
    if given["config"]:
        assert config.features.module == "benchmarks/signal_features.py"
        assert config.data.symbols[0].partition("-")[0] in SCENARIOS


def test_numbers_of_the_texts_are_those_of_the_settings() -> None:
    told = {one.name: one for one in gallery.ENTRIES}
    market = SyntheticConfig()
    assert market.change * 3 == market.bars * 2
    assert "two thirds of its bars" in told["ended"].told
    beta = float(re.findall(r"synthetic\.beta=([\d.]+)", told["faint"].arguments)[0])
    assert market.beta / beta == pytest.approx(20)
    assert "a twentieth of its strength" in told["faint"].told
    config = load_config(None)
    assert f"a new model every {config.split.step} bars" in told["sample"].told
    assert (config.preset, config.model, len(config.strategies)) == ("small", "informer", 2)


def test_a_verdict_that_is_not_the_one_told_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = f"<!doctype html><body style='margin: 50px'>{'word ' * 50}"
    monkeypatch.setattr(gallery, "browser_at", lambda asked: "a browser")
    monkeypatch.setattr(gallery, "report_of", lambda entry, folder: ("FAIL", page))
    monkeypatch.setattr(gallery, "photographed", lambda page, browser, folder, size: page)
    monkeypatch.setattr(gallery, "packed", lambda image, most: b"picture")
    for name, code in (("random", 0), ("passing", 1)):
        monkeypatch.setattr(sys, "argv", ["gallery.py", "--out", str(tmp_path), "--report", name])
        assert gallery.main() == code
        assert (tmp_path / "gallery" / f"{name}.png").read_bytes() == b"picture"
    assert "passing is told to be PASS, and is FAIL" in capsys.readouterr().err
    assert (tmp_path / "gallery.md").read_text(encoding="utf-8") == gallery.document()


def test_a_command_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(words: list[str], **options: object) -> CompletedProcess[str]:
        asked.append(words)
        return CompletedProcess(words, 3, "", "no such market")

    monkeypatch.setattr("gallery.subprocess.run", run)
    with pytest.raises(RuntimeError, match=r"qtrade run rw-1 .* ended with 3: no such market"):
        gallery.report_of(next(one for one in gallery.ENTRIES if one.name == "random"), tmp_path)
    assert asked[0][1:3] == ["run", "rw-1"]
    assert str(tmp_path / "runs") in asked[0]


def test_a_browser_is_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gallery.py", "--chromium", "/nowhere/chromium"])
    assert gallery.main() == 2
    assert "/nowhere/chromium" in capsys.readouterr().err
