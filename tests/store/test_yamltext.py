"""YAML that people write: read, or refused with its place."""

from __future__ import annotations

import pytest

from core.errors import SpecError
from core.store.yamltext import read_yaml


def test_yaml_and_json_are_read() -> None:
    assert read_yaml("a: [1, 二]\n", "x", "") == read_yaml('{"a": [1, "二"]}', "x", "") == {"a": [1, "二"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: [1", "f.yaml is no YAML: expected ',' or ']', but got '<stream end>' (line 2, column 6)"),
        ("a: b: c", "f.yaml is no YAML: mapping values are not allowed here (line 1, column 5)"),
        ("[" * 5000, "f.yaml is no YAML: it is nested too deeply"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_yaml(text, "f.yaml", "Mend it.")
    assert (caught.value.message, caught.value.hint) == (said, "Mend it.")


def test_characters_that_yaml_forbids_are_told() -> None:
    with pytest.raises(SpecError, match=r"no YAML: .*special characters are not allowed"):
        read_yaml("\x00", "f.yaml", "")
