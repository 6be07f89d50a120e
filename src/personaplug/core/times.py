"""What a time is, in one place: seconds, milliseconds to nanoseconds, dates and ISO-8601 become UTC seconds."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time
from numbers import Real

EXPECTED = "expected UTC seconds or a time such as 2024-05-31T12:00:00Z"

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?", re.ASCII)
_ZONE_NAME = re.compile(r"\s*\b(UTC|GMT)$")
_FIRST, _LAST = -62_135_596_800.0, 4_102_444_800.0  # years 1 and 2100, in UTC seconds
# A number too large for seconds is in a smaller unit: each unit's numbers from 1973 to 2100 overlap no other's.
_UNITS = (1e3, 1e6, 1e9)
_SINCE = 1e8  # seconds: 1973
_DATES = re.compile(r"(?:19|20)\d{6}")
_DATE_TIMES = re.compile(r"(?:19|20)\d{12}")
_MINUTES = re.compile(r"(?:19|20)\d{10}")
_SERIAL = 20_000.0, 80_000.0  # Excel's days since 1900: 1954 to 2119


def utc_seconds(at: object) -> float:
    """UTC seconds of a time, whatever unit it is written in; the one place that decides.

    A number is seconds where that is a year up to 2100, else milli-, micro- or nanoseconds where that is a year from
    1973 to 2100. A whole number of 8 or 14 digits that is a calendar date (20240531, 20240531120000) is that date. A
    text is a number or ISO-8601, in UTC where it names no zone.

    >>> utc_seconds(1_700_000_000), utc_seconds(1_700_000_000_000), utc_seconds("2023-11-14"), utc_seconds(20231114)
    (1700000000.0, 1700000000.0, 1699920000.0, 1699920000.0)

    Args:
        at: a number, a text, or a date or datetime.

    Raises:
        ValueError: it is none of these, or may mean two; says why, as the end of a sentence.
    """
    if isinstance(at, str):
        text = at.strip()
        if not _NUMBER.fullmatch(text):
            return _plausible(_iso(text).timestamp())
        at = int(text) if text.lstrip("+-").isdigit() else float(text)
    if isinstance(at, date):
        moment = at if isinstance(at, datetime) else datetime.combine(at, time())
        return _plausible(_aware(moment).timestamp())
    if isinstance(at, bool) or not isinstance(at, Real):
        raise ValueError(EXPECTED)
    try:
        number = float(at)
    except OverflowError:
        raise ValueError(EXPECTED) from None
    if not math.isfinite(number):
        raise ValueError(EXPECTED)
    return _of_number(number)


def _of_number(number: float) -> float:
    if number.is_integer():
        compact = _calendar(f"{number:.0f}")
        if compact is not None:
            return compact
    elif _SERIAL[0] < number < _SERIAL[1]:
        raise ValueError(f"which looks like a day of a spreadsheet; {EXPECTED}")
    if _FIRST <= number <= _LAST:
        return number
    for unit in _UNITS:
        if _SINCE <= abs(number) / unit <= _LAST:
            return number / unit
    raise ValueError(f"which is no time up to the year 2100 in seconds, milli-, micro- or nanoseconds; {EXPECTED}")


def _calendar(digits: str) -> float | None:
    """A number that is written as a calendar has it: 20240531, or 20240531120000."""
    if _DATES.fullmatch(digits):
        try:
            return datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC).timestamp()
        except ValueError:
            if digits.endswith("00"):  # no day, but a round number of seconds
                return None
            raise ValueError(f"which is no calendar date; {EXPECTED}") from None
    if _DATE_TIMES.fullmatch(digits):
        try:
            return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise ValueError(f"which is no calendar date and time; {EXPECTED}") from None
    if _MINUTES.fullmatch(digits):
        try:
            datetime.strptime(digits, "%Y%m%d%H%M")
        except ValueError:
            return None
        raise ValueError(f"which may be a date with minutes, or milliseconds of 1976; {EXPECTED}")
    return None


def _iso(text: str) -> datetime:
    try:
        return _aware(datetime.fromisoformat(_ZONE_NAME.sub("Z", text)))
    except ValueError:
        raise ValueError(EXPECTED) from None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _plausible(seconds: float) -> float:
    if not _FIRST <= seconds <= _LAST:
        raise ValueError(f"which is later than the year 2100; {EXPECTED}")
    return seconds
