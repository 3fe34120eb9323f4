"""Only a run's own folder is ever removed, and never by halves; a run that is being trained is left alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qtrade.errors import DataError, UsageError
from qtrade.pipeline.lock import FILE_NAME, being_trained, is_busy
from qtrade.pipeline.overview import glance_at_all
from qtrade.pipeline.removal import clear_leftovers, plan_removal, remove
from qtrade.runs import Run, list_runs, open_run

Made = Callable[..., Run]

HOLDER = """
import sys, time
from pathlib import Path
from qtrade.pipeline.lock import being_trained
from qtrade.runs import Run

with being_trained(Run(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def run(tmp_path: Path, made_run: Made) -> Run:
    return made_run(tmp_path / "runs")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- what is removed ---


def test_a_run_goes_with_everything_in_it_and_others_stay(run: Run, made_run: Made) -> None:
    runs = run.folder.parent
    other = made_run(runs, "name=other")
    (runs / "trials.sqlite").write_text("the ledger", encoding="utf-8")
    (plan,) = plan_removal([run, open_run(runs, "run")])
    assert (plan.files, plan.bytes) == (
        len([path for path in run.folder.rglob("*") if path.is_file()]),
        sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file()),
    )
    assert run.folder.exists(), "a plan touches nothing"
    remove(plan)
    assert names(runs) == {other.name, "trials.sqlite"}


def test_links_in_a_run_go_and_what_they_point_to_stays(run: Run, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine", encoding="utf-8")
    (run.folder / "folder").symlink_to(outside, target_is_directory=True)
    (run.folder / "file.txt").symlink_to(outside / "mine.txt")
    (plan,) = plan_removal([run])
    assert plan.bytes < 1_000_000
    remove(plan)
    assert (outside / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert not run.folder.exists()


# --- what is not ---


def test_a_link_to_a_run_is_refused(run: Run, tmp_path: Path) -> None:
    link = tmp_path / "runs" / "alias"
    link.symlink_to(run.folder, target_is_directory=True)
    with pytest.raises(UsageError, match="is a link to"):
        plan_removal([Run(link)])
    assert run.folder.exists()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"name": "a package of another program"}'])
def test_what_is_no_run_is_refused(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work", encoding="utf-8")
    if content is not None:
        (folder / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="cannot be told from a folder that is no run"):
        plan_removal([Run(folder)])
    assert (folder / "chapter.txt").exists()


def test_a_folder_that_holds_another_run_is_refused(run: Run, made_run: Made) -> None:
    inner = made_run(run.folder / "deeper", "name=inner")
    with pytest.raises(UsageError, match="holds another run") as caught:
        plan_removal([run])
    assert str(inner.folder) in caught.value.why
    assert inner.folder.exists()


def test_one_that_is_refused_saves_all(run: Run, made_run: Made) -> None:
    other = made_run(run.folder.parent, "name=other")
    with being_trained(other), pytest.raises(UsageError, match="is being trained"):
        plan_removal([run, other])
    assert run.folder.exists()


def test_what_has_become_busy_after_the_question_is_left_alone(run: Run) -> None:
    (plan,) = plan_removal([run])
    with being_trained(run), pytest.raises(UsageError, match="is being trained"):
        remove(plan)
    assert (run.folder / "manifest.json").exists()


# --- stopped in between ---


def test_a_removal_that_is_stopped_leaves_no_run_and_the_next_clears_it_away(
    run: Run, made_run: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = run.folder.parent
    other = made_run(runs, "name=other")

    def stop(folder: Path) -> None:
        (folder / "bars.parquet").unlink()
        raise KeyboardInterrupt

    (plan,) = plan_removal([run])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            remove(plan)
    assert len(names(runs)) == 2
    assert [one.name for one in list_runs(runs)] == [other.name]
    assert [one.name for one in glance_at_all(runs)] == [other.name]
    with pytest.raises(UsageError, match="there is no run"):
        open_run(runs, "run")
    clear_leftovers(runs)
    assert names(runs) == {other.name}


def test_nothing_but_leftovers_is_cleared_away(run: Run, tmp_path: Path) -> None:
    runs = run.folder.parent
    outside = tmp_path / "outside"
    outside.mkdir()
    (runs / ".removed-link").symlink_to(outside, target_is_directory=True)
    (runs / ".removed-file").write_text("mine", encoding="utf-8")
    (runs / ".hidden").mkdir()
    clear_leftovers(runs)
    assert names(runs) == {run.name, ".removed-link", ".removed-file", ".hidden"}
    assert outside.exists()


def test_what_the_system_refuses_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (plan,) = plan_removal([run])

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(UsageError, match="cannot be removed\n  why: Permission denied"):
            remove(plan)
    assert (run.folder / "manifest.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(UsageError, match="some files of a removed run are left in"):
            remove(plan)
    assert list_runs(run.folder.parent) == []


# --- the lock ---


def test_two_cannot_train_one_run(run: Run) -> None:
    assert not is_busy(run)
    with being_trained(run):
        assert is_busy(run)
        with pytest.raises(UsageError, match="is being trained by another process"), being_trained(run):
            raise AssertionError("unreachable")
        assert is_busy(run), "who was refused lets go of nothing"
    assert not is_busy(run)
    with being_trained(run):
        pass


def test_a_process_that_is_killed_lets_go(run: Run) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_busy(run)
        with pytest.raises(UsageError, match="is being trained"):
            plan_removal([run])
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while is_busy(run) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_busy(run)
    assert (run.folder / FILE_NAME).exists(), "the file stays; who holds it is what counts"
    assert len(plan_removal([run])) == 1


def test_a_run_that_was_removed_before_its_training_begins_is_not_trained(run: Run) -> None:
    (run.folder / "manifest.json").unlink()
    with pytest.raises(UsageError, match="was removed"), being_trained(run):
        raise AssertionError("unreachable")
    assert not is_busy(run)
