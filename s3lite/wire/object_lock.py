"""The documents and headers of object lock: configuration of a bucket, retention and hold of a version.

Dates are kept in whole seconds, rounded up, because that is how they are shown: who sends back what
was read must not shorten a retention.

Sources: API Reference, PutObjectLockConfiguration, PutObjectRetention, PutObjectLegalHold, PutObject.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import UNLOCKED, ObjectLock
from s3lite.times import iso8601, parse_iso8601
from s3lite.wire import xml

MODES = ("GOVERNANCE", "COMPLIANCE")
MODE_HEADER = "x-amz-object-lock-mode"
DATE_HEADER = "x-amz-object-lock-retain-until-date"
HOLD_HEADER = "x-amz-object-lock-legal-hold"

_MAX_DAYS = 36_500
_MAX_YEARS = 100
_LAST_S = 253_402_300_799  # the last second for which there is a date


@dataclass(frozen=True, slots=True)
class DefaultRetention:
    """What a bucket gives to versions that come without a retention of their own."""

    mode: str
    days: int = 0
    years: int = 0

    def until_ms(self, from_ms: int) -> int:
        """The end of a retention that begins at ``from_ms``; a year is one of the calendar."""
        start = datetime.fromtimestamp(math.ceil(from_ms / 1000), UTC)
        if self.years:
            leaps = (start.month, start.day) == (2, 29)
            end = (start + timedelta(days=leaps)).replace(year=start.year + self.years)
        else:
            end = start + timedelta(days=self.days)
        return int(end.timestamp()) * 1000


# ---------------------------------------------------------------- a bucket's configuration


def parse_configuration(data: bytes) -> DefaultRetention | None:
    """The default retention of an ObjectLockConfiguration, None when it has no rule.

    Raises MalformedXML, and InvalidRetentionPeriod (not 1..36500 days or 1..100 years).
    """
    root = xml.parse(data, "ObjectLockConfiguration")
    if xml.text(root, "ObjectLockEnabled").strip() != "Enabled":
        raise xml.malformed("ObjectLockEnabled must be Enabled")
    rule = xml.child(root, "Rule")
    if rule is None:
        return None
    retention = xml.child(rule, "DefaultRetention")
    if retention is None:
        raise xml.malformed("Rule needs a DefaultRetention")
    fields = {name: value.strip() for name, value in xml.fields(retention).items()}
    mode = _mode(fields.get("Mode", ""))
    if ("Days" in fields) == ("Years" in fields):
        raise xml.malformed("DefaultRetention needs either Days or Years")
    if "Days" in fields:
        return DefaultRetention(mode, days=_period(fields["Days"], "Days", _MAX_DAYS))
    return DefaultRetention(mode, years=_period(fields["Years"], "Years", _MAX_YEARS))


@lru_cache(maxsize=256)
def stored_configuration(document: bytes) -> DefaultRetention | None:
    """`parse_configuration` of what `configuration` wrote, remembered."""
    return parse_configuration(document)


def configuration(default: DefaultRetention | None) -> bytes:
    """An ObjectLockConfiguration document."""
    rule = ""
    if default is not None:
        unit, number = ("Years", default.years) if default.years else ("Days", default.days)
        rule = (
            f"<Rule><DefaultRetention><Mode>{default.mode}</Mode><{unit}>{number}</{unit}>"
            "</DefaultRetention></Rule>"
        )
    return xml.document("ObjectLockConfiguration", f"<ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}")


def _mode(text: str) -> str:
    if text not in MODES:
        raise xml.malformed("Mode must be GOVERNANCE or COMPLIANCE")
    return text


def _period(text: str, unit: str, largest: int) -> int:
    number = xml.integer(text)
    if number is None:
        raise xml.malformed(f"{unit} must be a whole number")
    if not 1 <= number <= largest:
        raise S3Error(
            Code.InvalidRetentionPeriod,
            f"The default retention period must be 1 to {largest} {unit.lower()}.",
        )
    return number


# ---------------------------------------------------------------- a version's retention and hold


def parse_retention(data: bytes, *, now_ms: int) -> ObjectLock:
    """Mode and date of a Retention document, `UNLOCKED` for an empty one.

    Raises MalformedXML, and InvalidArgument (a date that has passed).
    """
    fields = {name: value.strip() for name, value in xml.fields(xml.parse(data, "Retention")).items()}
    mode, date = fields.get("Mode", ""), fields.get("RetainUntilDate", "")
    if not mode and not date:
        return UNLOCKED
    _mode(mode)
    until_ms = _date_ms(date)
    if until_ms is None:
        raise xml.malformed("RetainUntilDate must be an ISO 8601 date")
    _check_future("RetainUntilDate", date, until_ms, now_ms)
    return ObjectLock(mode, until_ms)


def retention(lock: ObjectLock) -> bytes:
    """A Retention document."""
    date = iso8601(lock.retain_until_ms)
    return xml.document("Retention", f"<Mode>{lock.mode}</Mode><RetainUntilDate>{date}</RetainUntilDate>")


def parse_legal_hold(data: bytes) -> str:
    """``ON`` or ``OFF``. Raises MalformedXML."""
    status = xml.text(xml.parse(data, "LegalHold"), "Status").strip()
    if status not in ("ON", "OFF"):
        raise xml.malformed("Status must be ON or OFF")
    return status


def legal_hold(status: str) -> bytes:
    """A LegalHold document."""
    return xml.document("LegalHold", f"<Status>{status}</Status>")


def parse_headers(headers: Mapping[str, str], *, now_ms: int) -> ObjectLock:
    """The lock that an upload asks for. Raises InvalidArgument."""
    mode, date = headers.get(MODE_HEADER, ""), headers.get(DATE_HEADER, "")
    hold = headers.get(HOLD_HEADER, "")
    if not (mode or date or hold):
        return UNLOCKED
    if bool(mode) != bool(date):
        raise invalid_argument(
            DATE_HEADER if mode else MODE_HEADER,
            "",
            f"{DATE_HEADER} and {MODE_HEADER} must both be supplied.",
        )
    if mode and mode not in MODES:
        raise invalid_argument(MODE_HEADER, mode, "Unknown wormMode directive.")
    if hold not in ("", "ON", "OFF"):
        raise invalid_argument(HOLD_HEADER, hold, "Legal Hold must be either of 'ON' or 'OFF'.")
    until_ms = 0
    if date:
        parsed = _date_ms(date)
        if parsed is None:
            raise invalid_argument(
                DATE_HEADER, date, "The retain until date must be provided in ISO 8601 format."
            )
        _check_future(DATE_HEADER, date, parsed, now_ms)
        until_ms = parsed
    return ObjectLock(mode, until_ms, hold)


def _date_ms(text: str) -> int | None:
    seconds = parse_iso8601(text)
    return None if seconds is None else min(math.ceil(seconds), _LAST_S) * 1000


def _check_future(name: str, text: str, until_ms: int, now_ms: int) -> None:
    if until_ms <= now_ms:
        raise invalid_argument(name, text, "The retain until date must be in the future!")
