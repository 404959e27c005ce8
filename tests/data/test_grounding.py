"""Golden tables of where values stand, and what must hold for any value and text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.grounding import locate
from core.data.normalise import comparable, comparable_with_places
from core.data.quantities import Quantity, read_quantities

PLACES = [
    ("张三", "员工张三入职", "exact", "张三"),
    ("abc", "x ABC y", "normalised", "ABC"),
    ("ABC123", "编号ＡＢＣ１２３。", "normalised", "ＡＢＣ１２３"),
    (
        "27, JALAN DEDAP 13, TAMAN JOHOR",
        "AT 27,JALAN DEDAP 13,\nTAMAN JOHOR JAYA",
        "normalised",
        "27,JALAN DEDAP 13,\nTAMAN JOHOR",
    ),
    ("国际贸易", "國際貿易公司", "normalised", "國際貿易"),
    ("1204", "共1,204元", "normalised", "1,204"),
    ("1,204.50", "total 1204.5 due", "normalised", "1204.5"),
    ("120", "共一百二十人", "normalised", "一百二十"),
    ("二十三", "现年23岁", "normalised", "23"),
    ("3.5万", "共35000元", "normalised", "35000"),
    ("2020-03-05", "于2020年3月5日签订", "normalised", "2020年3月5日"),
    ("2020年3月5日", "于二〇二〇年三月五日签订", "normalised", "二〇二〇年三月五日"),
    ("5 March 2020", "dated March 5, 2020, in", "normalised", "March 5, 2020"),
    ("2018-12-25", "25/12/2018 8:13", "normalised", "25/12/2018"),
    ("28/03/18", "on 28 Mar 2018", "normalised", "28 Mar 2018"),
    ("20180304", "DATE 04/03/2018 9:00", "normalised", "04/03/2018"),
    ("12/10/2018", "on 2018-10-12", "normalised", "2018-10-12"),
    ("12/10/2018", "on 2018-12-10", "normalised", "2018-12-10"),
    ("1.2.3", "at 1.2.30", "exact", "1.2.3"),
    ("BOOK TA .K (TAMAN DAYA) SDN BHD", "BOOK TA .K(TAMAN DAYA) SDN BND\n789417-W", "fuzzy", "BOOK TA .K(TAMAN DAYA) SDN BND"),
    ("北京大学", "清华大学毕业", "absent", ""),
    ("张三", "张四来了", "absent", ""),
    ("1205", "共1,204元", "absent", ""),
    ("2020-03-06", "于2020年3月5日签订", "absent", ""),
    ("12", "共一百二十人", "absent", ""),
    ("", "任何", "absent", ""),
    ("  ", "a  b", "absent", ""),
    ("x", "", "absent", ""),
    ("Straße", "die STRASSE dort", "normalised", "STRASSE"),
]


@pytest.mark.parametrize(("value", "text", "kind", "found"), PLACES)
def test_places(value: str, text: str, kind: str, found: str) -> None:
    match = locate(value, text)
    assert match.kind == kind
    assert (text[match.start : match.end] if match.start >= 0 else "") == found


@pytest.mark.parametrize(
    ("text", "number"),
    [("一百零五", 105), ("十二", 12), ("两千零二十", 2020), ("三万五千", 35000), ("一亿二千万", 120_000_000), ("二〇二四", 2024),
     ("三点一四", "3.14"), ("1.50", "1.5"), ("壹佰贰拾", 120), ("-7", -7), ("２５", 25)],
)  # fmt: skip
def test_numbers(text: str, number: object) -> None:
    assert read_quantities(text) == (Quantity("number", (Decimal(str(number)),)),)


@pytest.mark.parametrize("text", ["张三", "25岁", "A12", "", "12:30", "万一了", "点"])
def test_what_is_no_quantity(text: str) -> None:
    assert read_quantities(text) == ()


mixed = st.text(st.sampled_from("aA ａ１1,.\n張张三點一万年月日2020-/　ßé😀"), max_size=12)


@given(mixed, mixed, mixed)
def test_a_part_of_a_text_is_found_exactly(before: str, value: str, after: str) -> None:
    match = locate(value, before + value + after)
    if value.strip():
        assert match.kind == "exact"
        assert (before + value + after)[match.start : match.end] == value


@given(mixed, mixed)
def test_offsets_hold_what_was_looked_for(value: str, text: str) -> None:
    match = locate(value, text)
    if match.kind == "absent":
        assert (match.start, match.end) == (-1, -1)
    else:
        assert 0 <= match.start < match.end <= len(text)
    if match.kind == "normalised" and not read_quantities(value):
        assert comparable(value) in comparable(text[match.start : match.end])


@given(mixed)
def test_places_point_into_the_text(text: str) -> None:
    folded, places = comparable_with_places(text)
    assert folded == comparable(text)
    assert len(places) == len(folded)
    assert places == sorted(places)
