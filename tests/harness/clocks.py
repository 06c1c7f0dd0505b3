"""Timestamps and wrong clocks: the part of the rules in expected.py that is about time."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Optional

SECOND = 1_000_000_000
MICROSECOND = 1_000
MINUTE = 60 * SECOND
LAST = 2**64 - 1  # OTLP's times are unsigned, in 64 bits


@dataclass(frozen=True)
class Window:
    """mapping.window; its default is the one in the configuration's description."""

    past_seconds: int = 84_600
    future_seconds: int = 3_000


@dataclass(frozen=True)
class Moment:
    """A time in nanoseconds. `of_server`: it was reckoned from the server's clock, so it is
    known as exactly as that is."""

    nanoseconds: int
    of_server: bool = False

    def as_sent(self):
        """Cut to what OTLP can say."""
        return min(max(self.nanoseconds, 0), LAST)


@dataclass
class Stamp:
    """When a record was: `sent` is the client's time if it can be read; correct() may change
    `time` and `adjustment`, of which the latter says why a time is not the client's."""

    sent: Optional[int]
    time: Moment
    adjustment: Optional[str] = None


def correct(stamps, received, window, sent_at):
    """The rules 1, 2 and 3 for the stamps of one request; `sent_at` is the device's clock at
    sending, None where that is not known."""
    readable = [stamp for stamp in stamps if stamp.sent is not None]
    move = 0
    if sent_at is not None:
        if abs(received - sent_at) >= MINUTE:
            move = received - sent_at
    elif readable:
        newest = max(stamp.sent for stamp in readable)
        if newest - received > MINUTE:
            move = received - newest
    oldest_allowed = received - window.past_seconds * SECOND
    newest_allowed = received + window.future_seconds * SECOND
    too_old, too_new = [], []
    for stamp in readable:
        moved = stamp.sent + move
        if move:
            stamp.time, stamp.adjustment = Moment(moved, of_server=True), "clock_drift"
        if moved < oldest_allowed:
            too_old.append(stamp)
        elif moved > newest_allowed:
            too_new.append(stamp)
    for number, stamp in enumerate(too_old):
        stamp.time = Moment(oldest_allowed + number * MICROSECOND, of_server=True)
        stamp.adjustment = "too_old"
    for number, stamp in enumerate(reversed(too_new)):
        stamp.time = Moment(newest_allowed - number * MICROSECOND, of_server=True)
        stamp.adjustment = "too_new"


TIMESTAMP = re.compile(
    r"(?P<year>\d{4}|[+-]\d{6})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"[Tt ](?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d+))?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<hours>\d\d):(?P<minutes>\d\d))?", re.ASCII)


def nanoseconds(stamp):
    """RFC 3339 and what Dart writes → nanoseconds since the epoch; None where it can't be read."""
    found = TIMESTAMP.fullmatch(stamp)
    if not found:
        return None
    day = day_number(*(int(found[name]) for name in ("year", "month", "day")))
    hour, minute, second = (int(found[name]) for name in ("hour", "minute", "second"))
    hours, minutes = int(found["hours"] or 0), int(found["minutes"] or 0)
    if day is None or hour > 23 or minute > 59 or second > 60 or hours > 23 or minutes > 59:
        return None
    east = (hours * 60 + minutes) * (-1 if found["sign"] == "-" else 1)
    in_utc = (day * 24 + hour) * 60 + minute - east
    if second == 60 and in_utc % (24 * 60) != 24 * 60 - 1:
        return None  # leap seconds are at the end of a day in UTC, nowhere else
    fraction = int((found["fraction"] or "").ljust(9, "0")[:9])
    return (in_utc * 60 + second) * SECOND + fraction


def day_number(year, month, day):
    """Days since 1970; None if there is no such day. Python's calendar ends in 9999, but all
    calendars repeat themselves after 400 years, that is 146,097 days."""
    cycles, year_of_cycle = divmod(year, 400)
    try:
        within = date(2000 + year_of_cycle, month, day) - date(2000, 1, 1)
    except ValueError:
        return None
    return (date(2000, 1, 1) - date(1970, 1, 1)).days + (cycles - 5) * 146_097 + within.days


def rfc3339(moment):
    """UTC with milliseconds, cut off."""
    at = datetime.fromtimestamp(moment // SECOND, timezone.utc)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{moment % SECOND // 1_000_000:03}Z"
