"""Names of elements: as they are typed, and as answers have them."""

from __future__ import annotations

import pytest

from core.data.elements import infer_elements, separated_names
from tests.data.make import rows_of


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        (" , ", ()),
        ("name", ("name",)),
        ("name, start date ,amount", ("name", "start date", "amount")),
        ("姓名，机构、职务,日期", ("姓名", "机构", "职务", "日期")),
    ],
)
def test_names_are_separated_by_commas_of_either_script(text: str, names: tuple[str, ...]) -> None:
    assert separated_names(text) == names


def test_only_readable_answers_name_elements() -> None:
    answers = ['{"b":["x"],"a":["y"],"b":["z"]}', '{"c":NaN}', '["d"]', '{"e"', "f", "{}"]
    assert infer_elements(rows_of(*({"output": answer} for answer in answers))) == ("b", "a")
