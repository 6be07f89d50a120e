from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from personaplug.bench.report.board import board
from personaplug.bench.report.board_page import render_board
from personaplug.bench.report.render import render, write_report
from personaplug.bench.report.showcase import Comparison, Person, Share, UserExample
from personaplug.bench.results import Shown

EVIL = '<script>alert("x")</script> https://example.com/a.png'


_PAGES: dict[str, str] = {}  # drawing takes time, and no test changes a page


def of_one(summary) -> str:
    share = Share(EVIL, 0.6)
    example = UserExample(EVIL, EVIL, EVIL, (("none", EVIL), ("plug", EVIL)), (share, Share("b", 0.1)), 9, False)
    even = UserExample("u", "r", "t", (), (Share("a", 0.5), Share("b", 0.5)), 2, True)
    comparison = Comparison((Person(EVIL, 3, (EVIL,)), Person("b", 4, ())), (EVIL,), ((EVIL, ""),), (EVIL,))
    return render(summary, [example, even], comparison)


def of_many(make_result):
    """Two experiments: one where everything is there and everything is evil, and an old one."""
    full = []
    for seed in (0, 1):
        old = make_result(seed)
        evil = dataclasses.replace(old.row("plug"), method=EVIL, used=((EVIL,),), answers=(EVIL,))
        cold = [dataclasses.replace(old.row("plug"), control=f"newest {n}") for n in (1, 4)]
        oracle = dataclasses.replace(old.row("plug"), method="best item", oracle=True)
        new = dataclasses.replace(
            old, rows=(*old.rows, evil, *cold, oracle), main="plug", shown=(Shown(1, EVIL, EVIL),),
            task=dataclasses.replace(old.task, name=EVIL), config={EVIL: EVIL}, failures={"lora": EVIL}, device=EVIL,
        )  # fmt: skip
        full.append(new)
    return board([full, [make_result(0)]])


def drawn(kind: str, summary, make_result) -> str:
    return of_one(summary) if kind == "one experiment" else render_board(of_many(make_result))


@pytest.fixture(params=["one experiment", "many experiments"])
def kind(request) -> str:
    """Both kinds of report."""
    return request.param


@pytest.fixture
def html(kind, summary, make_result) -> str:
    if kind not in _PAGES:
        _PAGES[kind] = drawn(kind, summary, make_result)
    return _PAGES[kind]


def test_texts_of_users_and_models_cannot_become_markup(html):
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_it_needs_no_network_and_no_other_file(html):
    class Loads(HTMLParser):
        found: ClassVar[list[str]] = []

        def handle_starttag(self, tag, attrs):
            assert tag not in ("script", "link", "img", "iframe", "object")
            self.found += [v for k, v in attrs if k in ("src", "href", "srcset", "xlink:href") and v]

    loads = Loads()
    loads.feed(html)
    assert all(v.startswith("#") for v in loads.found)
    styles = "".join(re.findall(r"<style.*?</style>", html, re.DOTALL))
    assert "http" not in styles
    assert "@import" not in styles
    assert html.count("http") == html.count("https://example.com/a.png")


def test_charts_take_the_pages_colours_and_font_so_that_dark_pages_work(html):
    charts = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "var(--main)" in charts
    assert "#a1000" not in charts
    assert "#000000" not in charts
    assert "font-family" not in charts


def test_no_element_id_is_given_twice(html):
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_every_element_is_closed(html):
    class Open(HTMLParser):
        stack: ClassVar[list[str]] = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "br", "path", "use", "rect"):
                self.stack.append(tag)

        def handle_endtag(self, tag):
            if tag not in ("meta", "br", "path", "use", "rect"):
                assert self.stack.pop() == tag

    reader = Open()
    reader.feed(html)
    assert reader.stack == []


@pytest.mark.parametrize("kind", ["one experiment"], indirect=True)
def test_it_shows_every_row_with_its_interval_and_every_chart(html, summary):
    for line in summary.lines:
        assert line.row.title in html
    assert html.count("<svg") == 4
    found = summary.gains[1].interval
    assert f"{found.low:+.3f} to {found.high:+.3f}" in html


@pytest.mark.parametrize("kind", ["many experiments"], indirect=True)
def test_it_shows_methods_gains_costs_cold_starts_users_examples_and_failures(html, make_result):
    for title in ("Which gains hold", "What it costs", "How much history it takes", "Who gains", "Side by side"):
        assert f"{title}</h2>" in html
    assert html.count("<svg") == 6 + 5  # no cold start in the old one
    assert "What failed" in html
    assert "used 1 behaviour<" in html
    assert "oracle: an upper bound" in html
    gain = of_many(make_result).columns[1].cells["plug"].gains["shuffled"].interval
    assert f"{gain.mean:+.3f} [\u2060{gain.low:+.3f}, {gain.high:+.3f}]" in html


def test_the_same_measurements_give_the_same_bytes(html, kind, summary, make_result):
    assert html == drawn(kind, summary, make_result)


def test_a_report_of_nothing_but_failures_says_so(make_result):
    empty = dataclasses.replace(make_result(0), rows=(), failures={"plug": "no room at all"})
    page = render_board(board([[empty]]))
    assert "no room at all" in page
    assert "<svg" not in page


def test_it_is_written_in_one_step(summary, tmp_path):
    write_report(tmp_path / "a" / "report.html", summary)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["report.html"]
