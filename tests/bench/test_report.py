from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from personaplug.bench.report import render, write_report
from personaplug.bench.showcase import Duel, Look, Person, Share

EVIL = '<script>alert("x")</script> https://example.com/a.png'


@pytest.fixture
def html(summary):
    share = Share(EVIL, 0.6)
    look = Look(EVIL, EVIL, EVIL, (("none", EVIL), ("plug", EVIL)), (share, Share("b", 0.1)), 9, False)
    even = Look("u", "r", "t", (), (Share("a", 0.5), Share("b", 0.5)), 2, True)
    duel = Duel((Person(EVIL, 3, (EVIL,)), Person("b", 4, ())), (EVIL,), ((EVIL, ""),), (EVIL,))
    return render(summary, [look, even], duel)


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


def test_it_shows_every_row_with_its_interval_and_every_chart(html, summary):
    for line in summary.lines:
        assert line.row.title in html
    assert html.count("<svg") == 4
    found = summary.gains[1].interval
    assert f"{found.low:+.3f} to {found.high:+.3f}" in html


def test_charts_take_the_pages_colours_so_that_dark_pages_work(html):
    charts = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "var(--main)" in charts
    assert "#a1000" not in charts
    assert "#000000" not in charts


def test_no_element_id_is_given_twice(html):
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_same_measurements_give_the_same_bytes(summary):
    assert render(summary) == render(summary)


def test_it_is_written_in_one_step(summary, tmp_path):
    write_report(tmp_path / "a" / "report.html", summary)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["report.html"]
