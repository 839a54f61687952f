"""Dates in text: their formats, and days since 1970-01-01."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime

EPOCH = datetime(1970, 1, 1)
DAY = 86_400
SLASHED = ("%d/%m/%Y", "%m/%d/%Y")  # which of them is meant, values above 12 say
TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")
ZONE, UTC_ZONE = "%z", "+00:00"
DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    *SLASHED,
    *(f"%Y-%m-%d{mark}{time}{zone}" for zone in ("", "Z", ZONE) for mark in " T" for time in TIMES),
)
LIKE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*", re.DOTALL)
TRIED = 50  # words by which the format of most is found


def days(moment: date | datetime) -> float:
    """Days since 1970-01-01, in UTC.

    >>> days(datetime(1970, 1, 2, 12)), days(date(1970, 1, 3))
    (1.5, 2.0)
    """
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - EPOCH).total_seconds() / DAY


def moment_of(word: str, format_: str) -> datetime | None:
    """The moment that a word in a format names; None if it is in another."""
    try:
        return datetime.strptime(word, format_)
    except ValueError:
        return None


def written(moment: datetime, format_: str) -> str:
    """A moment in UTC as a word.

    >>> written(datetime(2020, 1, 2, 3), "%Y-%m-%d %H:%M%z")
    '2020-01-02 03:00+00:00'
    """
    return moment.strftime(format_.replace(ZONE, UTC_ZONE))


def formats_of(words: Collection[str]) -> list[str]:
    """The formats of `DATES` that all words have.

    >>> formats_of({"2020-01-02", "2020-12-31"})
    ['%Y-%m-%d']
    """
    fitting = list(DATES) if all(map(LIKE.fullmatch, words)) else []
    for word in words:
        fitting = [f for f in fitting if moment_of(word, f)]
        if not fitting:
            break
    return fitting


def usual_format(words: Collection[str]) -> str | None:
    """The format of most words that look like dates, by some of them; None if none has one."""
    alike = sorted(filter(LIKE.fullmatch, words))[:: max(1, len(words) // TRIED)]
    counts = {f: sum(moment_of(word, f) is not None for word in alike) for f in DATES}
    most = max(counts, key=lambda f: counts[f])
    return most if counts[most] else None
