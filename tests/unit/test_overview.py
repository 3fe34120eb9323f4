"""A run is told at a glance however far it got, and no damaged folder breaks a list."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from qtrade.config import RunConfig, load_config
from qtrade.errors import DataError
from qtrade.files import write_json
from qtrade.pipeline.lock import being_trained
from qtrade.pipeline.overview import (
    account_changes,
    describe_run,
    glance,
    glance_at_all,
    sizes,
    told_bytes,
    told_seconds,
    told_symbols,
)
from qtrade.runs import Run

Made = Callable[..., Run]
VERDICT: dict[str, Any] = {
    "verdict": {"headline": "PASS", "line": "It holds."},
    "gates": [{"gate": "G0", "title": "I", "grade": "PASS"}],
}


@pytest.fixture
def run(tmp_path: Path, made_run: Made) -> Run:
    return made_run(tmp_path)


def finish_at(run: Run, moment: datetime) -> None:
    for path in run.folder.rglob("history.json"):
        os.utime(path, (moment.timestamp(), moment.timestamp()))


def test_a_finished_run_at_a_glance(run: Run) -> None:
    finish_at(run, datetime(2024, 5, 6, 7, 8, tzinfo=UTC))
    seen = glance(run)
    assert (seen.name, seen.model, seen.symbols, seen.interval) == (run.name, "ridge", ("A", "B"), "1d")
    assert (seen.first[:10], seen.last[:10]) == ("2020-01-01", "2021-09-11")
    assert (seen.state, seen.backtests, seen.note) == ("not evaluated", 0, "")
    assert seen.to_dict()["trained_at"] == "2024-05-06T07:08:00+00:00"
    assert seen.bytes == sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())


def test_the_state_says_how_far_a_run_got(tmp_path: Path, made_run: Made, run: Run) -> None:
    write_json(run.folder / "evaluation.json", VERDICT)
    assert glance(run).state == "PASS"
    with being_trained(run):
        assert glance(run).state == "being trained (1 of 1 folds)"
    (run.folder / "forecasts.parquet").unlink()
    assert glance(run).state == "training unfinished (1 of 1 folds)"
    (run.fold_folder("ridge", 0, 0) / "history.json").unlink()
    assert glance(run).state == "training unfinished (0 of 1 folds)"
    assert glance(run).trained is None
    many = made_run(tmp_path, "model=informer", "replicates=3", "name=many")
    assert glance(many).state == "training unfinished (0 of 3 fits)"


def test_the_newest_comes_first_and_what_was_never_trained_last(tmp_path: Path, made_run: Made) -> None:
    old, new, never = (made_run(tmp_path, f"name={name}") for name in ("old", "new", "never"))
    finish_at(old, datetime(2020, 1, 1, tzinfo=UTC))
    finish_at(new, datetime(2024, 1, 1, tzinfo=UTC))
    (never.fold_folder("ridge", 0, 0) / "history.json").unlink()
    assert [one.name for one in glance_at_all(tmp_path)] == [new.name, old.name, never.name]


@pytest.mark.parametrize(
    ("file", "content", "note"),
    [
        ("manifest.json", b"{", "manifest.json cannot be read"),
        ("manifest.json", b'{"data": {}}', "manifest.json lacks forecast_hash"),
        ("config.toml", b"seed = ", "config.toml is not valid TOML"),
        ("config.toml", b"sead = 1", "sead"),
        ("evaluation.json", b"[]", "evaluation.json holds no verdict"),
        ("evaluation.json", b'{"verdict": {"headline": "GREAT", "line": "!"}}', "evaluation.json holds no verdict"),
        ("evaluation.json", b"\xff", "evaluation.json cannot be read"),
    ],
)
def test_damage_becomes_a_note_and_breaks_no_list(
    tmp_path: Path, made_run: Made, run: Run, file: str, content: bytes, note: str
) -> None:
    made_run(tmp_path, "name=sound")
    (run.folder / file).write_bytes(content)
    found = {one.name: one for one in glance_at_all(tmp_path)}
    assert len(found) == 2
    assert found[run.name].state == "damaged"
    assert note in found[run.name].note
    assert found[run.name].bytes > 0
    assert [one.note for name, one in found.items() if name != run.name] == [""]


def test_a_manifest_with_odd_facts_is_a_note_too(run: Run) -> None:
    manifest = json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))
    write_json(run.folder / "manifest.json", {**manifest, "folds": [7]})
    assert "manifest is not what training writes" in glance(run).note
    write_json(run.folder / "manifest.json", {**manifest, "data": {"interval": "1d"}})
    assert "manifest is not what training writes" in glance(run).note
    with pytest.raises(DataError, match="is damaged"):
        describe_run(run)


def test_a_run_shown_has_everything_and_is_plain(run: Run, made_backtest: Callable[..., Path]) -> None:
    write_json(run.folder / "evaluation.json", VERDICT)
    days = pd.date_range("2020-05-01", periods=9, tz="UTC")
    made_backtest(run, pd.Series(0.01, index=days), strategy="good")
    made_backtest(run, pd.Series(0.01, index=days), strategy="other", cash=3.0)
    (made_backtest(run, pd.Series(0.01, index=days), strategy="cut") / "metrics.json").write_text("{", encoding="utf-8")
    told: dict[str, Any] = describe_run(run)
    json.dumps(told, allow_nan=False)
    assert told["verdict"] == {**VERDICT["verdict"], "gates": VERDICT["gates"]}
    assert told["data"]["hash"] == run.bars.fingerprint()
    assert told["forecasts"]["predicts_bars"] == 6
    assert told["forecasts"]["origins"] == 500
    training = told["training"]
    assert (training["fits_done"], training["fits"], training["fit_seconds"]) == (1, 1, 4.0)
    assert training["parameters"] == 0  # the random walk that was saved has none
    assert {"python", "torch", "numpy"} <= set(training["versions"])
    tests = {one["strategy"]: one for one in told["tested_strategies"]}
    assert tests["good()"]["account_of_run"]
    assert not tests["other()"]["account_of_run"]
    assert tests["good()"]["account_differs"] == []
    assert tests["other()"]["account_differs"]
    assert tests["good()"]["sharpe"] == 1.0
    assert "cannot be read" in tests[""]["note"]
    assert sum(one["size_bytes"] for one in told["files"]) == told["size_bytes"]
    assert {"folds/", "backtests/", "bars.parquet"} <= {one["name"] for one in told["files"]}
    assert told["again"] == [f"qtrade run --config {run.folder / 'config.toml'} --runs {run.folder.parent}"]


def test_sizes_do_not_follow_links(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    (outside / "large").write_bytes(bytes(10_000))
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "small").write_bytes(bytes(10))
    (folder / "link").symlink_to(outside, target_is_directory=True)
    found = dict(sizes(folder))
    assert set(found) == {Path("in/small"), Path("link")}
    assert found[Path("in/small")] == 10
    assert sum(found.values()) < 1_000


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (9_949, "9.9 kB"), (9_960, "10 kB"), (999_600, "1.0 MB"),
     (123_456_789, "123 MB"), (5_430_000_000, "5.4 GB")],
)  # fmt: skip
def test_sizes_are_written_with_their_unit(size: int, text: str) -> None:
    assert told_bytes(size) == text


def test_times_and_symbols_are_written_short() -> None:
    assert [told_seconds(one) for one in (None, 4.04, 99.9, 600, 86_400)] == [
        "in one step", "4.0 s", "99.9 s", "10 min", "24.0 h",
    ]  # fmt: skip
    assert told_symbols(("A", "B", "C")) == "A, B, C"
    assert told_symbols(tuple("ABCDE")) == "A, B, C and 2 more"


def test_an_account_is_told_by_what_differs() -> None:
    usual = RunConfig().backtest.model_dump(mode="json")
    other = load_config(overrides=["backtest.costs.fees_bps=0", "backtest.delay=2"]).backtest.model_dump(mode="json")
    assert account_changes(usual, usual) == []
    assert sorted(account_changes(other, usual)) == ["costs.fees_bps=0.0", "delay=2"]
