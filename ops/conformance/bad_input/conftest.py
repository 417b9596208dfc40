"""What every bad request must meet: a 4xx with an S3 error code, and no trace in the store.

Invariant checked here once for all: no answer is a 5xx, tells a path or a panic, or comes without an
S3 code (an answer that the HTTP layer itself gives before there is a request may have no XML).
"""

import pytest

LEAKS = (b"panicked", b"/root/", b"/home/", b".rs:", b"RUST_BACKTRACE", b"thread '")


@pytest.fixture
def refused():
    """Checks one refusal; `codes` are the S3 codes that say what was wrong."""

    def check(answer, *codes, statuses=(400, 403, 404, 405, 409, 411, 412, 413, 431), xml=True):
        assert answer.status in statuses, f"not refused as it should be: {answer}"
        assert not any(leak in answer.body for leak in LEAKS), answer.body
        if xml:
            assert answer.code, f"no S3 error in {answer}"
        if codes:
            assert answer.code in codes, f"{answer.code} is not one of {codes}"

    return check


@pytest.fixture(autouse=True)
def still_serving(wire):
    """After whatever a test sent, the server answers the next client."""
    yield
    assert wire.call("GET", "/").status == 200
