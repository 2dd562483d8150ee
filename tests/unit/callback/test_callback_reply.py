"""What counts as success, and what an answer asks for."""

from __future__ import annotations

import pytest

from s3lite.callback import reply


@pytest.mark.parametrize(
    ("text", "date", "seconds"),
    [
        ("7", "", 7),
        ("86400", "", 3600),
        ("Sun, 06 Nov 1994 08:50:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 60),
        ("Sun, 06 Nov 1994 08:40:00 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 3600),
        ("Sun, 06 Nov 1994 08:50:37 GMT", "", 0),
        ("soon", "Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("-1", "", 0),
        ("", "", 0),
    ],
)
def test_retry_after_is_seconds_or_a_time_by_the_senders_own_clock(
    text: str, date: str, seconds: int
) -> None:
    assert reply.retry_after(text, date) == seconds
