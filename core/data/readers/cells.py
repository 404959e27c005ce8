"""A typed cell of a spreadsheet or a table as the text that stands in it. Knows nothing of files or columns."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any


def cell_text(cell: Any) -> str:
    """Text as it is, nothing (null, NaN) as ``""``, dates as ISO 8601, whole numbers without a point."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat(sep=" ")
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    return str(cell)
