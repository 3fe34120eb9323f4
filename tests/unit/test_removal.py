"""Only a run's own folder is ever removed, and never by halves; a run that is being trained is left alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from qtrade.errors import DataError, UsageError
from qtrade.files import write_json
from qtrade.pipeline.backtest import backtest_run, load_strategies
from qtrade.pipeline.evaluate import evaluate_run
from qtrade.pipeline.forecast import forecast_run
from qtrade.pipeline.lock import FILE_NAME, USE_FILE, being_removed, being_trained, in_use, is_busy, keeping
from qtrade.pipeline.overview import glance_at_all
from qtrade.pipeline.removal import clear_leftovers, leftovers, plan_removal, remove
from qtrade.pipeline.report import markdown_of, report_run
from qtrade.pipeline.sweep import sweep_run
from qtrade.progress import Silent
from qtrade.runs import Run, list_runs, open_run

Made = Callable[..., Run]

HOLDER = """
import sys, time
from pathlib import Path
from qtrade.pipeline import lock
from qtrade.runs import Run

with getattr(lock, sys.argv[2])(Run(Path(sys.argv[1]))):
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
    (run.folder / "predictions").symlink_to(outside, target_is_directory=True)
    (run.folder / "report.html").symlink_to(outside / "mine.txt")
    (run.folder / "folds" / "deeper").symlink_to(outside, target_is_directory=True)
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
        next(path for path in folder.rglob("*") if path.is_file()).unlink()
        raise KeyboardInterrupt

    (plan,) = plan_removal([run])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            remove(plan)
    (left,) = leftovers(runs)
    assert names(runs) == {left.name, other.name}
    assert (left / "manifest.json").exists(), "the manifest goes last"
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
    (runs / ".removed-file-00000000").write_text("mine", encoding="utf-8")
    (runs / ".hidden").mkdir()
    for name in (".removed-holiday-photos", ".removed-photos-2024beef"):
        (runs / name).mkdir()
        (runs / name / "beach.jpg").write_text("mine", encoding="utf-8")
    (runs / ".removed-mixed-00000000").mkdir()
    shutil.copy(run.folder / "manifest.json", runs / ".removed-mixed-00000000")
    (runs / ".removed-mixed-00000000" / "beach.jpg").write_text("mine", encoding="utf-8")
    before = names(runs)
    clear_leftovers(runs)
    assert names(runs) == before
    assert outside.exists()
    (runs / ".removed-mixed-00000000" / "beach.jpg").unlink()
    (runs / ".removed-run-11111111").mkdir()  # stopped before the folder itself could go
    clear_leftovers(runs)
    assert names(runs) == before - {".removed-mixed-00000000"}


def test_a_manifest_that_no_training_wrote_is_no_proof(run: Run, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    (precious / "docs").mkdir(parents=True)
    (precious / "docs" / "thesis.txt").write_text("years of work", encoding="utf-8")
    bare = {"schema": 1, "forecast_hash": "x", "facts": {}, "data": {}, "folds": [], "notes": []}
    write_json(precious / "manifest.json", bare)
    with pytest.raises(DataError, match="cannot be told from a folder that is no run"):
        plan_removal([Run(precious)])
    write_json(precious / "manifest.json", run.manifest)  # not even with that of a run
    with pytest.raises(UsageError, match=r"holds what no run makes: docs/\n"):
        plan_removal([Run(precious)])
    assert (precious / "docs" / "thesis.txt").exists()


def test_strangers_in_a_run_are_named_and_temporary_files_are_none(run: Run) -> None:
    (run.folder / ".manifest.json.abc123.tmp").write_text("", encoding="utf-8")
    assert len(plan_removal([run])) == 1
    for name in "abcdefg":
        (run.folder / f"{name}.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"makes: a.txt, b.txt, c.txt, d.txt, e.txt and 2 more\n"):
        plan_removal([run])


def test_a_run_of_a_later_qtrade_is_refused(run: Run) -> None:
    write_json(run.folder / "manifest.json", {**run.manifest, "schema": 99})
    with pytest.raises(DataError, match="has schema 99, which this qtrade does not know"):
        plan_removal([run])


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
        [sys.executable, "-c", HOLDER, str(run.folder), "being_trained"], stdout=subprocess.PIPE, text=True
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


# --- the lock of those who use a run ---

posix = pytest.mark.skipif(
    sys.platform == "win32", reason="the system itself keeps a folder there in which a file is open"
)


@posix
def test_many_use_a_run_while_it_is_trained_and_none_while_it_is_removed(run: Run) -> None:
    with in_use(run), in_use(run), being_trained(run):
        pass
    with being_removed(run), pytest.raises(UsageError, match="is being removed"), in_use(run):
        raise AssertionError("unreachable")
    with in_use(run):
        pass


@posix
def test_a_run_that_another_process_uses_is_not_removed(run: Run) -> None:
    (plan,) = plan_removal([run])
    assert not (run.folder / USE_FILE).exists(), "a plan writes nothing"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.folder), "in_use"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        for refused in (lambda: plan_removal([run]), lambda: remove(plan)):
            with pytest.raises(UsageError, match="is being used by another command"):
                refused()
        with in_use(run):
            pass  # beside it, others may
        process.kill()
        process.wait()
    remove(plan)
    assert not run.folder.exists()


@posix
def test_both_locks_are_held_until_the_folder_has_its_hidden_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (plan,) = plan_removal([run])
    rename, met = Path.rename, []

    def look(self: Path, target: Path) -> Path:
        for lock in (in_use, being_trained):
            with pytest.raises(UsageError) as caught, lock(run):
                raise AssertionError("unreachable")
            met.append(caught.value.what)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", look)
    remove(plan)
    assert met == [f"the run {run.name} is being removed", f"the run {run.name} is being trained by another process"]
    assert list(run.folder.parent.iterdir()) == []


def test_training_that_waited_for_a_removed_run_leaves_no_ghost(run: Run) -> None:
    shutil.rmtree(run.folder)
    with pytest.raises(UsageError, match="was removed"), being_trained(run):
        raise AssertionError("unreachable")
    assert not run.folder.exists()


@posix
def test_a_function_that_keeps_a_run_holds_its_lock(run: Run, tmp_path: Path) -> None:
    @keeping
    def work(mine: Run, answer: int, *, refused: bool) -> int:
        with pytest.raises(UsageError, match="is being used") if refused else nullcontext(), being_removed(mine):
            pass
        return answer

    assert work(run, 42, refused=True) == 42
    assert work(Run(tmp_path / "nowhere"), 1, refused=False) == 1  # what it makes of that is its own affair
    with being_removed(run):
        pass


@posix
@pytest.mark.parametrize(
    "work",
    [
        lambda run: backtest_run(run, progress=Silent()),
        lambda run: evaluate_run(run, progress=Silent()),
        lambda run: report_run(run, progress=Silent()),
        lambda run: markdown_of(run, progress=Silent()),
        lambda run: forecast_run(run, progress=Silent()),
        lambda run: sweep_run(run, load_strategies({"forecast_sign": {}})[0], [], progress=Silent()),
    ],
)
def test_nothing_begins_to_work_on_a_run_that_is_being_removed(run: Run, work: Callable[[Run], object]) -> None:
    with being_removed(run), pytest.raises(UsageError, match="is being removed"):
        work(run)
