"""The templates that pages are made from: their files, their style, and the only scripts that they may run.

A page carries everything it needs. Its content security policy forbids every request, and every script but those whose
SHA-256 stands in the policy itself (W3C, Content Security Policy Level 3, section 2.3.1), so that nothing that came
with a name from outside could ever run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from qtrade.report.text import typeset
from qtrade.unprintable import visible

SCRIPTS = ("page.js", "paths.js")
"""Scripts of a page: what serves every table and term, and the time line of predicted paths."""


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Make the environment that renders all pages; texts are escaped unless they are `Markup`."""
    made = Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    made.globals.update(script=script, policy=policy)
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    made.filters["prose"] = prose
    return made


@lru_cache(maxsize=len(SCRIPTS))
def script(name: str) -> Markup:
    """Return one of `SCRIPTS` as it stands between its tags."""
    if name not in SCRIPTS:
        raise ValueError(f"'{name}' is none of {', '.join(SCRIPTS)}")
    # What explains a line to a reader of the repository need not travel with every report.
    return Markup("\n".join(line for line in _text(name).splitlines() if not line.lstrip().startswith("//")))


def policy(*scripts: str) -> Markup:
    """Return the content security policy of a page with these scripts and no others."""
    hashes = " ".join(f"'sha256-{_digest(script(name))}'" for name in scripts)
    allowed = f"script-src {hashes}; " if hashes else ""
    others = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return Markup(f"default-src 'none'; {allowed}{others}")


def prose(text: str) -> Markup:
    """Set a sentence (see `qtrade.report.text.typeset`); what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(typeset(text)))))


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _visible(value: object) -> object:
    """Take orders to terminals and marks of direction out of a text: HTML has no place for the first."""
    if isinstance(value, Markup):
        return Markup(visible(value))  # escaped before, and still
    return visible(value) if isinstance(value, str) else value
