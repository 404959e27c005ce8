"""How numbers, intervals and times are written, everywhere the same. Knows nothing of Streamlit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

DASH = "–"
MINUS = "−"


def count(value: float | None) -> str:
    """A whole number with thousands separated: ``12,345``."""
    return DASH if _absent(value) else f"{round(value or 0):,}"


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits, thousands separated, never an exponent below a trillion: ``0.714``, ``1,230``."""
    if value is None or _absent(value):
        return DASH
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}".replace("-", MINUS)


def score(value: float | None) -> str:
    """A score between 0 and 1 with two decimals more than it needs to be read at a glance: ``0.71``."""
    return DASH if value is None or _absent(value) else f"{value:.2f}".replace("-", MINUS)


def interval(value: float | None, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """A value with its interval: ``0.71 [0.64, 0.77]``, or with signs ``+0.33 [+0.24, +0.42]``."""
    write = difference if signed else score
    if value is None or _absent(value):
        return DASH
    if low is None or high is None or _absent(low) or _absent(high):
        return write(value)
    return f"{write(value)} [{write(low)}, {write(high)}]"


def unbroken(text: str) -> str:
    """The same on one line, for a value with its interval in a heading."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def difference(value: float | None, places: int = 2) -> str:
    """A difference with its sign: ``+0.33``, ``−0.05``; zero has none."""
    if value is None or _absent(value):
        return DASH
    written = f"{abs(value):,.{places}f}"
    if not float(written.replace(",", "")):
        return written
    return ("+" if value > 0 else MINUS) + written


def percent(share: float | None) -> str:
    """A share of 1 as a percentage; a small one is never rounded to nothing: ``<0.1 %``."""
    if share is None or _absent(share):
        return DASH
    value = share * 100
    if 0 < value < 0.1:
        return "<0.1 %"
    if 99.9 < value < 100:
        return ">99.9 %"
    whole = value == 0 or 10 <= value <= 99 or value == 100
    return f"{value:.0f} %" if whole else f"{value:.1f} %"


def duration(seconds: float | None) -> str:
    """A time as people say it: ``0.4 s``, ``45 s``, ``2 min 05 s``, ``1 h 12 min``, ``3 d 4 h``."""
    if seconds is None or _absent(seconds) or seconds < 0:
        return DASH
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes < 10 and rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def size(byte_count: float | None) -> str:
    """An amount of storage: ``412 MB``, ``1.5 GB`` (powers of 1,000)."""
    if byte_count is None or _absent(byte_count):
        return DASH
    value = float(byte_count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{count(value) if unit == 'bytes' else number(value)} {unit}"
        value /= 1000
    return f"{number(value)} TB"


def free(byte_count: float, device: str) -> str:
    """How much memory can be used: ``21.5 GB of memory are free``, of a GPU ``71.2 GB are free on cuda:0``."""
    return f"{size(byte_count)} of memory are free" if device == "cpu" else f"{size(byte_count)} are free on {device}"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago a moment was: ``just now``, ``5 min ago``, ``3 h ago``, ``2 days ago``, then the date."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h ago"
    days = int(seconds // 86400)
    if days < 14:
        return f"{days} day ago" if days == 1 else f"{days} days ago"
    return f"{moment:%Y-%m-%d}"


def plural(amount: float, one: str, many: str | None = None) -> str:
    """``1 row``, ``1,204 rows``."""
    return f"{count(amount)} {one if round(amount) == 1 else many or one + 's'}"


def splits(sizes: Mapping[str, int]) -> str:
    """The sizes of splits in words: ``960 train, 120 dev, 120 test``; rows in none are named so."""
    order = [name for name in ("train", "dev", "test") if sizes.get(name)]
    order += [name for name in sizes if name not in ("train", "dev", "test") and sizes[name]]
    return ", ".join(f"{count(sizes[name])} {name or 'in no split'}" for name in order)


def _absent(value: float | None) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
