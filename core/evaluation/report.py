"""One self-contained HTML page of a comparison: verdict, scores with intervals, per-element differences, error transitions,
flipped rows. No script, no font, no file but itself. Knows nothing of Streamlit or Plotly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from core.errors import UserError
from core.evaluation.comparison import Comparison
from core.evaluation.metrics.names import SHOWN
from core.evaluation.scoring import LOWER_IS_BETTER
from core.evaluation.words import number, p_value, said_metric
from core.store.files import write_text

MAX_ROWS = 60
MAX_TEXT = 2000
"""Characters of a text that are shown: 60 rows of six arms stay a page that can be sent."""


def write_report(comparison: Comparison, path: Path, *, texts: bool = True) -> None:
    """Write the page atomically. UserError if the folder can't be written. ``texts``: as for ``render_report``."""
    try:
        write_text(path.absolute(), render_report(comparison, texts=texts))
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}", "Choose another path for --report.") from error


def render_report(comparison: Comparison, *, texts: bool = True) -> str:
    """The page as HTML text; without ``texts`` rows are named but not quoted, for data that must not be passed on."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short"] = lambda text: text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
    environment.filters.update(
        number=_number, signed=_signed, p=_p, metric=said_metric, share=lambda value: f"{100 * value:.2f}%"
    )
    sections = [_section(comparison, n) for n in range(1, len(comparison.arms))]
    names = [name for name in SHOWN if any(name in arm.scores for arm in comparison.arms)]
    arms = [arm.evaluation for arm in comparison.arms]
    timed: dict[tuple[str, str], list[str]] = {}
    for letter, arm in zip("ABCDEF", comparison.arms, strict=False):
        if arm.latency is not None:
            timed.setdefault((arm.latency.how, arm.latency.machine), []).append(letter)
    title = " against ".join(arm.short_name for arm in reversed(arms[:2])) if len(arms) == 2 else f"{len(arms)} arms"
    return environment.get_template("report.html.jinja").render(
        comparison=comparison, names=names, sections=sections, lower=LOWER_IS_BETTER, max_rows=MAX_ROWS, texts=texts,
        title=f"{arms[0].spec.dataset}: {title}", timed=timed,
    )  # fmt: skip


def _section(comparison: Comparison, n: int) -> dict[str, Any]:
    """What the page shows of the n-th arm against the first."""
    versus = comparison.versus[n - 1]
    prefix = "f1:"
    forest: list[dict[str, Any]] = [
        {"name": name[len(prefix) :], **d}
        for name, d in versus.difference.items()
        if name.removeprefix(prefix) in comparison.named
    ]
    reach = max([1e-9, *(max(abs(line["low"]), abs(line["high"])) for line in forest)])
    return {
        "letter": chr(65 + n),
        "versus": versus,
        "arm": comparison.arms[n],
        "forest": [{**line, **_places(line, reach)} for line in sorted(forest, key=lambda line: -line["value"])],
        "matrix": versus.matrix,
        "flipped": _flipped(comparison, n),
    }


def _places(line: dict[str, Any], reach: float) -> dict[str, float]:
    """Where interval and value stand on an axis from -reach to reach, 0 to 1."""
    return {f"at_{key}": (line[key] / reach + 1) / 2 for key in ("low", "value", "high")}


def _flipped(comparison: Comparison, n: int) -> list[dict[str, Any]]:
    """Rows won or lost, the greatest changes first."""
    rows = [
        {
            **row,
            "change": row[f"score_{n}"] - row["score_0"],
            "left": row["prediction_0"],
            "right": row[f"prediction_{n}"],
            "other": row[f"score_{n}"],
        }
        for row in comparison.frame.to_pylist()
        if row[f"result_{n}"] != "tied"
    ]
    return sorted(rows, key=lambda row: -abs(row["change"]))[:MAX_ROWS]


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _p(value: float, named: bool = False) -> str:
    return p_value(value) if named else p_value(value).removeprefix("p ").removeprefix("= ")


def _signed(value: float) -> str:
    return f"{value:+.3f}" if abs(value) < 10 else f"{value:+.1f}"
