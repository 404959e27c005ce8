"""Measurements beside evaluations (judges, code, plain text): one folder each, the record in it and what was kept on the way."""

from __future__ import annotations

import json
from pathlib import Path

from core.errors import NotFoundError
from core.records import Measurement
from core.store.files import area, write_json

_AREA, _RECORD = "measurements", "measurement.json"


def measurement_folder(measurement_id: str) -> Path:
    """Where a measurement's files lie."""
    return area(_AREA, measurement_id)


def save_measurement(measurement: Measurement) -> Measurement:
    """Write a measurement's record, new or changed."""
    write_json(measurement_folder(measurement.measurement_id) / _RECORD, measurement.model_dump(mode="json"))
    return measurement


def list_measurements(kind: str = "") -> list[Measurement]:
    """All measurements (of a kind), the newest first."""
    found = [Measurement.model_validate(json.loads(path.read_text("utf-8"))) for path in area(_AREA).glob(f"*/{_RECORD}")]
    chosen = [one for one in found if not kind or one.spec.kind == kind]
    return sorted(chosen, key=lambda one: (one.created_at, one.measurement_id), reverse=True)


def get_measurement(key: str) -> Measurement:
    """A measurement by its identifier or its name (the newest of that name)."""
    found = list_measurements()
    for one in (*(m for m in found if m.measurement_id == key), *(m for m in found if m.name == key)):
        return one
    raise NotFoundError(f"There is no measurement {key!r}", "`python -m core measurements` lists them.")
