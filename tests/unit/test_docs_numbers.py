"""What docs/numbers.md says is so: its formulas are those of the code, and no number goes without one."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qtrade.backtest.metrics import Metrics, Relative
from qtrade.evaluation.result import Evaluation
from qtrade.evaluation.skill import skill
from qtrade.forecasts import Forecasts
from qtrade.report.text import GROUPS
from qtrade.types import Bars, Float64Array

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDE = (DOCS / "numbers.md").read_text(encoding="utf-8")
ROWS = [line for line in GUIDE.splitlines() if line.startswith("| ")]
ENTRIES = {part.strip() for row in ROWS for part in row.split(" | ")[0].removeprefix("| ").split(";")}
KEYS = {part for name in re.findall(r"`([a-z0-9_.]+)`", GUIDE) for part in name.split(".")}

# Mappings of a report whose values are what columns are called.
CAPTIONS = ("FOLD_COLUMNS", "_STRETCH")
# What names a thing, rather than a number.
NAMES = {
    "Block", "Found", "Gate", "Measure", "Model", "Number", "Run", "Setting", "Strategy", "Trained on", "Trained until",
    "Verdict", "What was found",
}  # fmt: skip
# Under these keys of evaluation.json stand names of the run: of features, horizons, models and parameters.
OF_THE_RUN = ("fit_rows", "flagged_folds_share", "intervals", "params", "r2_by_retraining_bars", "skill")


def test_every_formula_gives_what_the_code_computes(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", GUIDE, flags=re.DOTALL)
    assert len(blocks) > 20
    for code, printed in blocks:
        exec(code, namespace)
        assert capsys.readouterr().out == printed, code
    with pytest.raises(AssertionError):
        namespace["same"](1.0, 1.0 + 1e-9)


def test_every_number_of_a_backtest_has_its_formula() -> None:
    labels = {label for group in GROUPS.values() for label, _, _ in group.values()}
    assert labels <= ENTRIES
    fields = {*Metrics.__dataclass_fields__, *Relative.__dataclass_fields__} | {
        key for group in GROUPS.values() for key in group
    }
    bounds = {name for name in fields if re.search(r"_(low|high|se)$", name)}
    assert fields - bounds <= KEYS


# --- captions ---


def constants(node: ast.AST) -> Iterator[str]:
    """Texts of a tuple or list of captions; of a text with something put into it, what stands before that."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        if isinstance(node.values[0], ast.Constant):
            yield str(node.values[0].value)
    elif isinstance(node, ast.Tuple | ast.List | ast.Starred | ast.IfExp):
        for child in ast.iter_child_nodes(node):
            yield from constants(child)


def captions_of(function: ast.FunctionDef) -> Iterator[str]:
    """Captions of the columns of tables that a function makes; of a table of findings, those of its rows."""
    for call in ast.walk(function):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Table"):
            continue
        for columns in [one.value for one in call.keywords if one.arg == "columns"] or call.args[1:2]:
            yield from constants(columns)
            if any(isinstance(part, ast.Name) and part.id == "columns" for part in ast.walk(columns)):
                for made in ast.walk(function):
                    if isinstance(made, ast.Assign | ast.AugAssign):
                        target = made.targets[0] if isinstance(made, ast.Assign) else made.target
                        if isinstance(target, ast.Name) and target.id == "columns":
                            yield from constants(made.value)
            if [*constants(columns)][1:] == ["Found"]:
                for row in ast.walk(function):
                    if isinstance(row, ast.Tuple) and len(row.elts) == 3 and isinstance(row.elts[0], ast.Constant):
                        yield str(row.elts[0].value)


def report_captions() -> dict[str, str]:
    """Every caption of the report's tables, and the file it stands in."""
    found: dict[str, str] = {}
    mappings = set()
    for path in sorted((ROOT / "qtrade" / "report").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                found |= dict.fromkeys(captions_of(node), path.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
                name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
                if name in CAPTIONS:
                    mappings.add(name)
                    found |= {text: path.name for value in node.value.values for text in constants(value)}
    assert mappings == set(CAPTIONS)
    return {text: place for text, place in found.items() if text}


def means(caption: str, entry: str) -> bool:
    """Whether an entry is that of a caption, which may have its unit behind it, or end where something is put in."""
    return caption == entry or caption.startswith(f"{entry}, ") or f"{entry} ".startswith(caption)


def test_every_column_of_the_reports_tables_has_its_formula() -> None:
    found = report_captions()
    assert {"R² vs no change", "CRPS skill", "Smallest visible IC", "Chance of overfitting (PBO)", "Depth"} <= set(
        found
    )
    missing = {
        text: place
        for text, place in found.items()
        if text not in NAMES and not any(means(text, entry) for entry in ENTRIES)
    }
    assert missing == {}, "say in docs/numbers.md how these are computed"


# --- evaluation.json ---


def numbers_in(told: object, parent: str = "") -> Iterator[str]:
    """Names under which numbers stand."""
    if isinstance(told, Mapping):
        for name, value in told.items():
            if parent not in OF_THE_RUN and (value is None or isinstance(value, int | float)):
                yield str(name)
            yield from numbers_in(value, str(name))
    elif isinstance(told, list | tuple):
        for value in told:
            yield from numbers_in(value, parent)


def test_every_number_of_an_evaluation_has_its_formula(
    forecast_market: Callable[..., tuple[Bars, Forecasts, Float64Array]], evaluated: Callable[..., Evaluation]
) -> None:
    bars, forecasts, actual = forecast_market(("A",), bars=300, before=40, folds=5, horizon=6)
    found = {"informer": skill(forecasts, actual, np.full(len(forecasts), 1e-4), (1, 6))}
    names = set(numbers_in(evaluated(bars, forecasts, actual, found).to_dict()))
    assert {"crps_skill", "r2_points_lost", "null_sharpe_per_bar_q95", "adf_p"} <= names
    # "Conventions" says what these beginnings and endings mean.
    parts = r"^(naive|scaled)_|_(low95|high95|p_holm|p)(?=_share$|$)"
    missing = {name for name in names if not {name, re.sub(parts, "", name)} & KEYS}
    assert missing == set(), "say in docs/numbers.md how these are computed"


# --- sources and places ---


def test_every_paper_that_is_named_stands_among_the_sources() -> None:
    text, _, listed = GUIDE.partition("\n## Sources\n")
    years = r"(?:19|20)\d\d"
    cited = set(re.findall(rf"([A-Z][a-zà-ÿ]+)(?:'s)?(?: et al\.)? \(?({years})\)?", text))
    assert len(cited) > 25
    papers = [paper for paper in listed.splitlines() if paper]
    assert {(who, when) for who, when in cited if not any(who in one and f"({when})" in one for one in papers)} == set()
    read = {(one.split()[1].strip(","), year) for one in papers for year in re.findall(rf"\(({years})\)", one)}
    assert {one for one in read if one[0] not in text or one[1] not in text} == set()


def test_modules_and_links_are_there() -> None:
    for module in re.findall(r"`(qtrade/[\w/]+\.py)`", GUIDE):
        assert (ROOT / module).exists(), module
    for link in re.findall(r"\]\(([^)]+)\)", GUIDE):
        name, _, anchor = link.partition("#")
        text = (DOCS / name).read_text(encoding="utf-8") if name else GUIDE
        titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, link
