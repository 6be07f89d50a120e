"""What the page alone asks for: the map of a user's texts, people to try, the report, files that break no policy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from personaplug import data
from personaplug.core.errors import DataError
from personaplug.serve import app
from personaplug.serve.routes import demo
from personaplug.serve.routes.map import project
from personaplug.serve.security.api_keys import make_key
from personaplug.serve.settings import Settings
from serving import OPEN, Parrot, served, text_service

PAGE = Path(app.__file__).parent / "page"


@pytest.fixture
def nothing_pulled(monkeypatch):
    """No packaged data set is here."""

    def absent(name: str) -> Path:
        raise DataError(f"data set {name!r} is not here")

    monkeypatch.setattr(data, "path", absent)
    demo.demo_people.cache_clear()
    yield
    demo.demo_people.cache_clear()


@given(arrays(np.float32, st.tuples(st.integers(0, 12), st.integers(1, 6)), elements=st.floats(-1, 1, width=16)))
def test_a_map_is_finite_within_its_square_and_the_same_again(vectors):
    points, explained = project(vectors)
    assert points.shape == (len(vectors), 2)
    assert np.isfinite(points).all()
    assert np.abs(points).max(initial=0) <= 1 + 1e-6
    assert 0 <= sum(explained) <= 1 + 1e-6
    np.testing.assert_array_equal(points, project(vectors)[0])


def test_equal_texts_share_a_point_and_groups_stand_apart():
    near, far = np.tile([1.0, 0, 0], (3, 1)), np.tile([0, 1.0, 0], (3, 1))
    points, explained = project(np.vstack([near, far]).astype(np.float32))
    assert np.ptp(points[:3], axis=0).max() < 1e-6
    assert abs(points[0, 0] - points[3, 0]) > 1
    assert explained[0] == pytest.approx(1)


def test_the_map_of_a_user_has_a_point_for_each_of_the_newest_texts(parrot):
    with parrot.client() as web:
        lines = [{"id": str(n), "input": "say", "output": f"word {n} " * 50, "at": n} for n in range(6)]
        web.post("/v1/users/mapped/history", json=lines)
        found = web.get("/v1/users/mapped/map", params={"limit": 4}).json()
        assert [b["id"] for b in found["data"]] == ["2", "3", "4", "5"]
        assert all(-1 <= b[axis] <= 1 for b in found["data"] for axis in "xy")
        assert max(len(b["output"]) for b in found["data"]) <= 160
        assert web.get("/v1/users/nobody/map").status_code == 404
        assert web.get("/v1/users/mapped/map", params={"model": "echo:nun"}).status_code == 404


@pytest.mark.usefixtures("nothing_pulled")
def test_people_to_try_are_added_once_and_stay_as_they_were_corrected(tmp_path):
    path = tmp_path / "users.db"
    with served(text_service(path, Parrot(), OPEN), path) as live, live.client() as web:
        first = web.post("/v1/demo")
        assert (first.status_code, first.json()["source"]) == (201, "made up")
        assert first.json()["added"] == 16 * len(first.json()["users"])
        web.put("/v1/users/mara/history/demo-1", json={"output": "corrected"})
        assert web.post("/v1/demo").json()["added"] == 0
        assert web.get("/v1/users/mara/history/demo-1").json()["output"] == "corrected"


@pytest.mark.usefixtures("nothing_pulled")
def test_the_report_and_people_to_try_are_not_for_keys_of_certain_users(tmp_path):
    path, report = tmp_path / "users.db", tmp_path / "report.html"
    report.write_text("<main>good</main>")
    with served(text_service(path, Parrot(), Settings(rate=0, user_rate=0)), path, report) as live:
        some, tenant, everybody = (
            make_key(live.keys, scopes=["read", "write"], **reach)[1]
            for reach in ({"users": ["ada"]}, {"tenant": "acme"}, {})
        )
        for key, status in ((some, 403), (tenant, 403), (everybody, 200), ("", 401)):
            with live.client(key) as web:
                assert web.get("/v1/report").status_code == status
        with live.client(some) as web:
            assert web.post("/v1/demo").status_code == 403
        with live.client(tenant) as web:
            assert web.post("/v1/demo").status_code == 201
        with live.client(everybody) as web:
            assert web.get("/v1/users").json()["data"] == []  # they are the tenant's


def test_without_a_report_the_way_to_one_is_told(parrot):
    with parrot.client() as web:
        refused = web.get("/v1/report")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "no_report")
    assert "--report FILE" in refused.json()["error"]["message"]


def test_the_page_is_served_under_a_policy_that_lets_nothing_else_in(parrot):
    with parrot.client() as web:
        for file in sorted(PAGE.iterdir()):
            found = web.get(f"/{file.name}")
            assert (found.status_code, found.text) == (200, file.read_text(encoding="utf-8"))
            policy = found.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy


@pytest.mark.parametrize("file", sorted(PAGE.iterdir()), ids=lambda f: f.name)
def test_a_file_of_the_page_is_small_asks_nobody_else_and_never_reads_text_as_html(file):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 400
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    if file.suffix == ".html":
        assert not re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)
