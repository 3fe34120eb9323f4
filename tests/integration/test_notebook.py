"""The example notebook runs from top to bottom, and the guide to Python prints what it says."""

from __future__ import annotations

import ast
import re
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = (ROOT / "docs" / "notebook.py").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def cells() -> list[tuple[str, str]]:
    """Kind and text of each cell of the notebook."""
    parts = re.split(r"^# %%(.*)\n", NOTEBOOK, flags=re.MULTILINE)[1:]
    return [(kind.strip(), text) for kind, text in zip(parts[::2], parts[1::2], strict=True)]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The notebook in an empty folder: what each cell shows, what all of them print, and the names they define."""
    folder, names, shown, printed = tmp_path_factory.mktemp("notebook"), dict[str, Any](), list[Any](), StringIO()
    with chdir(folder), redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        # Drawing a report takes longer than everything else here, and is tested elsewhere.
        patch.setattr("qtrade.report.page.render", lambda report: report.verdict.headline)
        for kind, text in cells():
            if kind == "[markdown]":
                continue
            tree = ast.parse(text)
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "notebook", "exec"), names)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), "notebook", "eval"), names))
    return SimpleNamespace(folder=folder, names=names, shown=shown, printed=printed.getvalue())


def test_every_value_of_the_notebook_is_shown_as_html(played: SimpleNamespace) -> None:
    values = [value for value in played.shown if value is not None]
    assert len(values) >= 9
    for value in values:
        assert value._repr_html_().startswith(("<div>", "<div>\n"))
    headlines = {type(value).__name__ for value in values}
    assert {"Bars", "Run", "Prediction", "Forecasts", "Backtests", "Evaluation", "Sweep", "Explained"} <= headlines


def test_the_notebook_shows_a_strategy_that_loses_and_why(played: SimpleNamespace) -> None:
    loser = played.names["told"]
    assert loser["metrics"]["net_annual_return"] < min(0, loser["buy_and_hold"]["net_annual_return"])
    assert loser["metrics"]["cost_annual"] < -loser["metrics"]["gross_annual_return"], "it is the market, not the costs"
    assert "gross -" in played.printed
    assert played.names["evaluation"].verdict.headline in ("FAIL", "INCONCLUSIVE")
    assert (played.folder / "runs" / played.names["run"].name / "report.html").is_file()


def test_text_cells_are_comments_and_code_cells_are_not() -> None:
    for kind, text in cells():
        lines = [line for line in text.splitlines() if line.strip()]
        assert all(line.startswith("#") for line in lines) == (kind == "[markdown]")


def test_the_guide_prints_what_it_says(played: SimpleNamespace) -> None:
    found = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", GUIDE, flags=re.DOTALL)
    assert len(found) >= 8
    names: dict[str, Any] = {}
    with chdir(played.folder):
        for code, expected in found:
            printed = StringIO()
            with redirect_stdout(printed):
                exec(code, names)
            assert printed.getvalue() == expected, code
