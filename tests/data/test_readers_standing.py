"""Tables in which no heading tells the text: it is the column in which the cells of others stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.readers.guessing import guess
from core.data.readers.standing import standing_in_text
from core.errors import UnnamedColumnsError

CONTRACTS = [
    {"编号": f"HT{n:03}", "正文": f"甲方{who}于{day}付{amount}，联系人{'、'.join(names)}。", "甲方": who, "日期": day,
     "金额": amount, "联系人": "、".join(names[::-1]), "备注": "加急"}
    for n, (who, day, amount, names) in enumerate(
        [("云海公司", "2024年3月1日", "５万元", ["张伟", "李娜"]), ("海蓝公司", "2024-05-06", "300元", ["王芳"]),
         ("江河公司", "2023/7/8", "1,000元", ["刘洋", "陈静", "赵敏"])], 1,
    )
]  # fmt: skip
NOTICES = [
    {
        "no": "7",
        "flag": "1",
        "body": f"On {n + 1} May Alice and {who} paid {n}1 dollars in {place}.",
        "who": f"{who}; Alice",
        "place": place,
    }
    for n, (who, place) in enumerate([("Bob Hill", "Rome"), ("Cy Dale", "Oslo"), ("Di Marsh", "Bath"), ("Ed Wood", "Kent")])
]


@pytest.mark.parametrize(
    ("rows", "guessed", "text", "elements"),
    [
        (CONTRACTS, {}, "正文", {"甲方", "日期", "金额", "联系人"}),
        (NOTICES, {}, "body", {"who", "place"}),  # a 1 stands in every text: by chance
        (NOTICES, {"body": "input"}, "body", {"who", "place"}),
        (NOTICES, {"place": "input"}, "", set()),  # what a name tells is the text, if any is
        ([{"q": "What is a?", "a": "a"}] * 5, {}, "", set()),  # one column alone is no evidence
        ([{"正文": "云海公司付 5 元", "甲方": "云海公司", "金额": "5 元"}], {}, "", set()),  # nor is one row
        ([{"a": n, "b": f"{n} {n}", "c": [n]} for n in range(9)], {}, "", set()),
    ],
)
def test_the_text_is_where_the_cells_stand(
    rows: list[dict[str, str]], guessed: dict[str, str], text: str, elements: set[str]
) -> None:
    found = standing_in_text(rows, list(rows[0]), guessed)
    assert [column for column, field in found.items() if field == "input"] == ([text] if text else [])
    assert {column for column, field in found.items() if field == "element"} == elements


@given(st.lists(st.fixed_dictionaries({name: st.text(max_size=4) | st.none() | st.floats() for name in "abc"}), max_size=6))
def test_any_table_has_one_text_and_several_elements_or_nothing(rows: list[dict[str, str]]) -> None:
    fields = list(standing_in_text(rows, list("abc"), {}).values())
    assert not fields or (fields.count("input") == 1 and fields.count("element") == 2)


def test_the_fault_of_a_table_without_names_says_the_command(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    lines = [",".join(f'"{cell}"' for cell in row.values()) for row in CONTRACTS]
    path.write_bytes("\n".join([",".join(CONTRACTS[0]), *lines]).encode("gb18030"))
    with pytest.raises(UnnamedColumnsError) as fault:
        guess(path)
    assert "联系人 stand in 正文" in fault.value.hint
    assert "--map '正文=input' --map '甲方=element'" in fault.value.hint
    found = guess(path, mapping=fault.value.likely)
    assert (found.task, found.preview[1]["output"]) == (
        "extraction", '{"甲方":"海蓝公司","日期":"2024-05-06","金额":"300元","联系人":"王芳"}',
    )  # fmt: skip
