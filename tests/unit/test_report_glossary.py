from __future__ import annotations

import re

import pytest

from qtrade.report.glossary import ALIASES, TERMS, Glossary, anchor, term_of
from qtrade.report.text import METRICS

EVIL = "<script>alert('x')</script>"


def test_every_line_is_one_sentence_that_says_more_than_the_word() -> None:
    for term, line in TERMS.items():
        assert line.endswith("."), term
        assert len(line) > 20, term
        assert line.rstrip(".") != term, term
        assert "\n" not in line, term


def test_every_alias_leads_to_a_line_and_hides_none() -> None:
    assert set(ALIASES.values()) <= set(TERMS)
    assert not set(ALIASES) & set(TERMS)


def test_anchors_tell_all_terms_apart() -> None:
    anchors = [anchor(term) for term in TERMS]
    assert len(set(anchors)) == len(anchors)
    assert all(re.fullmatch(r"tip-[a-z0-9-]+", one) for one in anchors)


def test_every_number_of_a_backtest_is_explained() -> None:
    assert [name for name, _, _ in METRICS.values() if term_of(name) is None] == []


@pytest.mark.parametrize(
    ("label", "term"),
    [
        ("Beta", "Beta"),
        ("Sharpe ratio, net", "Sharpe ratio, net"),
        ("Sharpe ratio, net, my_strategy", "Sharpe ratio, net"),
        ("Correlation (IC), 24 bars ahead", "Correlation (IC)"),
        ("Pinball loss in %, at 5%, 50%, 95%", "Pinball loss in %"),
        ("1 bar ahead", "Bars ahead"),
        ("1,000 bars ahead", "Bars ahead"),
        ("Bars ahead, answer", "Bars ahead"),
        ("my_strategy", None),
        ("2020-01-02", None),
        ("", None),
        ("high volatility, below SMA200", None),
    ],
)
def test_labels_find_their_term_whatever_they_are_told_of(label: str, term: str | None) -> None:
    assert term_of(label) == term


def test_a_word_that_is_used_twice_is_listed_once_in_alphabetical_order() -> None:
    glossary = Glossary()
    for label in ("Year", "beta", "Beta", "Sharpe ratio, net, mine", "Sharpe ratio", "ACI"):
        glossary.mark(label)
    assert [term for _, term, _ in glossary.listed()] == ["ACI", "Beta", "Sharpe ratio, net", "Year"]
    assert all(TERMS[term] == line and anchor(term) == name for name, term, line in glossary.listed())


def test_names_are_escaped_whether_they_are_explained_or_not() -> None:
    glossary = Glossary()
    assert "<script" not in glossary.mark(EVIL)
    marked = glossary.mark(f"Beta, {EVIL}")
    assert marked.startswith('<button type="button" class="tip" popovertarget="tip-beta"')
    assert "<script" not in marked
    assert "&lt;script&gt;" in marked
