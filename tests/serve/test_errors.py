"""What the log says of failures: a line for what is known, a trace for what nobody expected."""

from __future__ import annotations

import logging

import pytest

from personaplug.core.errors import DataError
from personaplug.serve.openai.errors import LOG, to_api_error


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(LOG, "propagate", True)  # a server that ran before turned it off
    return caplog


def test_a_store_that_is_away_is_a_line_in_the_log_and_its_place_is_not_told(log: pytest.LogCaptureFixture) -> None:
    refused = to_api_error(DataError("store postgresql://db/users: connection refused"))
    assert (refused.status_code, refused.code) == (503, "unavailable")
    assert "postgresql" not in str(refused.detail)
    [record] = log.records
    assert (record.getMessage(), record.exc_info) == ("store postgresql://db/users: connection refused", None)
    assert record.levelno == logging.ERROR


def test_what_nobody_expected_has_its_trace_in_the_log(log: pytest.LogCaptureFixture) -> None:
    refused = to_api_error(ZeroDivisionError("of something"))
    assert (refused.status_code, refused.code) == (500, "internal_error")
    [record] = log.records
    assert record.exc_info is not None


def test_what_is_the_requests_own_fault_is_not_in_the_log(log: pytest.LogCaptureFixture) -> None:
    assert to_api_error(DataError("'at' is 'x': expected a number")).status_code == 400
    assert not log.records
