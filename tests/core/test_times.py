"""A time is read right whatever unit it is written in, or refused; never taken for another time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import TIMES

from personaplug.core.times import utc_seconds

MOMENTS = st.datetimes(datetime(1974, 1, 1), datetime(2099, 12, 31)).map(lambda t: t.replace(microsecond=0, tzinfo=UTC))


@given(MOMENTS, st.sampled_from([1, 1_000, 1_000_000, 1_000_000_000]), st.booleans())
def test_every_unit_of_a_moment_is_that_moment(moment, unit, as_text):
    number = int(moment.timestamp()) * unit
    assert utc_seconds(str(number) if as_text else number) == moment.timestamp()


@given(MOMENTS)
def test_a_calendar_date_as_a_number_is_that_day(moment):
    day = moment.replace(hour=0, minute=0, second=0).timestamp()
    assert utc_seconds(int(f"{moment:%Y%m%d}")) == utc_seconds(f"{moment:%Y%m%d}") == day
    assert utc_seconds(int(f"{moment:%Y%m%d%H%M%S}")) == moment.timestamp()


@given(MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_iso_texts_mean_their_own_zone_and_utc_without_one(moment, minutes):
    local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    bare = f"{moment:%Y-%m-%d %H:%M:%S}"
    texts = [local.isoformat(), bare, f"{bare} UTC", f" {bare}Z "]
    assert {utc_seconds(text) for text in texts} == {moment.timestamp()}
    assert utc_seconds(local) == moment.timestamp()


@given(st.lists(TIMES, min_size=1, max_size=9))
def test_seconds_stay_as_they_are_so_that_counted_steps_stay_in_order(times):
    assert [utc_seconds(t) for t in times] == times


def test_a_day_is_its_midnight():
    assert utc_seconds(date(1970, 1, 2)) == 86_400.0


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (45443.5, "a day of a spreadsheet"),
        (20240231, "no calendar date"),
        ("20240531256161", "no calendar date"),
        (202405311200, "a date with minutes, or milliseconds of 1976"),
        (5e10, "no time up to the year 2100"),
        (10**19 * 5, "no time up to the year 2100"),
        ("9999-12-31", "later than the year 2100"),
        (float("nan"), "expected UTC seconds"),
        (10**400, "expected UTC seconds"),
        ("31/05/2024", "expected UTC seconds"),
        ("1_000", "expected UTC seconds"),
        ("", "expected UTC seconds"),
        (True, "expected UTC seconds"),
        ([1], "expected UTC seconds"),
    ],
)
def test_what_is_no_time_or_may_be_two_is_refused(at, says):
    with pytest.raises(ValueError, match=says):
        utc_seconds(at)
