"""Commands that say what there is: features, models, doctor."""

from __future__ import annotations

import typer

from qtrade.cli_app import App
from qtrade.cli_options import CACHE, CacheOption, JsonOption
from qtrade.terminal import print_records

lists_app = App()


@lists_app.command()
def features(as_json: JsonOption = False) -> None:
    """List the features a model can read.

    Example: qtrade features
    """
    from qtrade.features.indicators import FEATURE_SETS, FEATURES

    rows = [
        {
            "name": name,
            "group": feature.group,
            "formula": feature.formula,
            "warmup": feature.warmup,
            "needs_volume": feature.needs_volume,
            "sets": [key for key, names in FEATURE_SETS.items() if name in names],
        }
        for name, feature in FEATURES.items()
    ]
    print_records(rows, as_json, hidden=("group", "needs_volume"))


@lists_app.command()
def models(as_json: JsonOption = False) -> None:
    """List the models.

    Example: qtrade models
    """
    from qtrade.models import MODEL_TEXTS

    print_records([{"name": name, "what": what} for name, what in MODEL_TEXTS.items()], as_json)


@lists_app.command()
def doctor(as_json: JsonOption = False, cache: CacheOption = CACHE) -> None:
    """Show versions, device and cache, and what is missing.

    Example: qtrade doctor
    """
    from qtrade.doctor import examine

    findings = examine(cache)
    print_records([{"what": one.what, "found": one.found, "problem": one.problem} for one in findings], as_json)
    if any(one.problem for one in findings):
        raise typer.Exit(1)
