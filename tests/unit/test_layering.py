"""A module imports lower layers, or same-layer modules listed above it; nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import qtrade

ROOT = Path(qtrade.__file__).parent

# Longest prefix wins. Within a layer, a package may import those that stand above it.
ORDER = [
    ("errors", 0), ("notebook_html", 0), ("settings", 0), ("files", 0), ("progress", 0), ("unprintable", 0),
    ("terminal", 0), ("types", 0),
    ("paths", 0), ("forecasts", 0), ("user_code", 0),
    ("calendars", 1), ("data", 1), ("features", 1), ("splits", 1), ("windows", 1), ("strategy_spec", 1),
    ("strategy_file", 1), ("strategy", 1), ("strategy_audit", 1), ("ledger", 1),
    ("models", 2), ("backtest", 2), ("evaluation", 2),
    ("doctor", 3), ("presets", 3), ("config_file", 3), ("config", 3), ("options", 3), ("config_reference", 3),
    ("config_page", 3), ("workspace", 3), ("runs", 3), ("report", 3), ("pipeline", 3),
    ("api", 4), ("cli_app", 4), ("cli_options", 4), ("cli_config", 4), ("cli_data", 4), ("cli_backtest", 4),
    ("cli_strategies", 4), ("cli_report", 4), ("cli_stages", 4), ("cli_forecast", 4), ("cli_compare", 4),
    ("cli_runs", 4), ("cli_lists", 4), ("cli", 4), ("__main__", 4),
]  # fmt: skip
POSITION = {name: number for number, (name, _) in enumerate(ORDER)}
OUTSIDE_ONLY_IN = {
    "torch": "models/",
    "vectorbt": "backtest/engine.py",
    "typer": "cli",
    "yfinance": "data/yahoo.py",
}


def part(module: str) -> str:
    """The layer's entry a module belongs to: ``qtrade.models.train`` is part of ``models``."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "qtrade"


def imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            found.append(node.module)
    return found


def modules() -> dict[str, list[str]]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(("qtrade", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        found[name] = imports(ast.parse(path.read_text(encoding="utf-8")))
    return found


def test_every_module_has_a_layer() -> None:
    unknown = {part(name) for name in modules()} - set(POSITION) - {"qtrade"}
    assert not unknown, f"add to ORDER: {unknown}"


def test_imports_only_point_down() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, targets in modules().items()
        for target in targets
        if target.split(".")[0] == "qtrade" and part(target) != "qtrade"
        if name != "qtrade" and POSITION[part(target)] > POSITION[part(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_cycles_between_modules() -> None:
    graph = {
        name: {target for target in targets if target.startswith("qtrade.")} for name, targets in modules().items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_heavy_dependencies_stay_behind_their_one_door() -> None:
    for name, targets in modules().items():
        path = name.removeprefix("qtrade.").replace(".", "/")
        for target in targets:
            door = OUTSIDE_ONLY_IN.get(target.split(".")[0])
            assert door is None or f"{path}.py".startswith(door) or f"{path}/".startswith(door), f"{name}: {target}"


def test_command_line_starts_without_the_heavy_dependencies() -> None:
    tree = ast.parse((ROOT / "cli.py").read_text(encoding="utf-8"))
    top = [name for node in tree.body for name in imports(node) if isinstance(node, ast.Import | ast.ImportFrom)]
    heavy = {"torch", "vectorbt", "yfinance", "matplotlib", "pandas", "qtrade.pipeline", "qtrade.config"}
    assert not {name for name in top if name in heavy or name.split(".")[0] in heavy}
