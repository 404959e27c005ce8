"""Golden tables of dirt in single texts, and what mending must keep."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.detect.characters import PATTERN as HIDDEN
from core.data.detect.characters import has_hidden, strip_hidden
from core.data.detect.language import LANGUAGES, count_kinds, languages, mixes_scripts
from core.data.detect.markup import PATTERN as MARKUP
from core.data.detect.markup import has_markup, strip_markup
from core.data.detect.mojibake import PATTERN as GARBLED
from core.data.detect.mojibake import is_mojibake, repair_mojibake
from core.data.detect.personal import PATTERN as PERSONAL
from core.data.detect.personal import find_personal, is_identity_number, mask_personal, passes_luhn
from core.data.detect.placeholders import PATTERN as SLOT
from core.data.detect.turns import turn_fault


def sieved(pattern: str, text: str) -> bool:
    return bool(pc.match_substring_regex(pa.array([text]), pattern)[0].as_py())


CHINESE = ["我们是中国人，你好。", "甲方：北京市朝阳区建国路", "联通公司的用户", "國際貿易公司於民國"]


@pytest.mark.parametrize("text", CHINESE)
def test_chinese_read_as_latin_is_found_and_repaired(text: str) -> None:
    for encoding in ("latin-1", "cp1252"):
        try:
            garbled = text.encode().decode(encoding)
        except UnicodeDecodeError:
            continue
        assert sieved(GARBLED, garbled)
        assert is_mojibake(garbled)
        assert repair_mojibake(garbled) == text


@pytest.mark.parametrize("text", ["你好", "你好世界", "我们都是学生！", "合同编号及金额"])
def test_chinese_read_as_gbk_is_found_and_repaired(text: str) -> None:
    garbled = text.encode().decode("gbk", "replace")
    assert sieved(GARBLED, garbled)
    assert is_mojibake(garbled)
    if "\ufffd" not in garbled:
        assert repair_mojibake(garbled) == text
        assert repair_mojibake(f"前文{garbled}") == f"前文{text}"


@pytest.mark.parametrize(
    "text",
    [
        *CHINESE,
        "café résumé naïve Ünïcödé",
        "The “quick” – brown fox’s",
        "10 × 5 ± 2 µm",
        "浣熊和鏡子、闂關",
        "鑫淼焱垚",
        "Łódź, Österreich, Âge",
    ],
)
def test_sound_text_is_no_mojibake(text: str) -> None:
    assert not is_mojibake(text)
    assert repair_mojibake(text) == text


def test_lost_characters_are_found_and_left() -> None:
    for text in ("锟斤拷锟斤拷", "a\ufffdb", "烫烫烫烫"):
        assert is_mojibake(text)
        assert repair_mojibake(text) == text


MARKED = [
    ("<p>a</p>", "a"),
    ("a<br/>b", "a\nb"),
    ('<div class="x">a &amp; b</div>', "a & b"),
    ("a&nbsp;b &#20013;", "a b 中"),
    ("& gt ; 5 <!-- x --> 6", "> 5  6"),
    ("<script>var x = 1 < 2;</script>a", "a"),
]


@pytest.mark.parametrize(("text", "expected"), MARKED)
def test_markup(text: str, expected: str) -> None:
    assert has_markup(text)
    assert sieved(MARKUP, text)
    assert strip_markup(text) == expected


@pytest.mark.parametrize(
    "text", ["a < b and c > d", "x <- y", "AT&T", "<|input|>:", "<eoh>", "if a<b:", "List<int>", "R&D; more"]
)
def test_what_is_no_markup(text: str) -> None:
    assert not has_markup(text)
    assert not sieved(MARKUP, text)


def test_hidden_characters() -> None:
    for text in ("a\u200bb", "\ufeffab", "a\x07b", "a\u202eb", "ab\u200d"):
        assert sieved(HIDDEN, text)
        assert has_hidden(text)
        assert strip_hidden(text) == "ab"
    for text in ("a\tb\n", "👨‍👩‍👧", "می‌خواهم", "中文　空格"):
        assert not has_hidden(text)
        assert not sieved(HIDDEN, text)


@pytest.mark.parametrize(
    "text",
    ["我是 {{name}}", "{{ user.name }}", "${city}", "%(date)s", "<%= x %>", "[TODO]", "【待补充】", "日期：____", "XXX-XXXX"],
)
def test_placeholders(text: str) -> None:
    assert sieved(SLOT, text)


@pytest.mark.parametrize("text", ['{"a": {"b": 1}}', "$5", "5% (s)", "a_b__c", "[1]", "xxx", "{x}", "【新闻】"])
def test_what_is_no_placeholder(text: str) -> None:
    assert not sieved(SLOT, text)


FOUND = [
    ("身份证11010519491231002X。", "identity", "11010519491231002X"),
    ("身份证11010519491231002x", "identity", "11010519491231002x"),
    ("电话13812345678", "mobile", "13812345678"),
    ("+86 138-1234-5678", "mobile", "+86 138-1234-5678"),
    ("卡4539578763621486", "bank_card", "4539578763621486"),
    ("4111 1111 1111 1111", "bank_card", "4111 1111 1111 1111"),
    ("TEL:07-3507405", "phone", "07-3507405"),
    ("座机010-62345678转", "phone", "010-62345678"),
    ("(212) 555-0142", "phone", "(212) 555-0142"),
    ("写信到a.b+c@mail.example.com，", "email", "a.b+c@mail.example.com"),
]


@pytest.mark.parametrize(("text", "kind", "found"), FOUND)
def test_personal_data(text: str, kind: str, found: str) -> None:
    assert sieved(PERSONAL, text)
    assert [(each.kind, text[each.start : each.end]) for each in find_personal(text)] == [(kind, found)]
    assert found not in mask_personal(text)


@pytest.mark.parametrize(
    "text",
    ["110105194912310021", "11010519490231002X", "订单202012345678901234", "9556939040116", "4539578763621487", "12812345678",
     "价格1381.23元", "2020-03-05", "ABC13812345678", "a@b", "@user", "v1.2.3"],
)  # fmt: skip
def test_what_is_no_personal_data(text: str) -> None:
    assert find_personal(text) == []
    assert mask_personal(text) == text


def test_masks() -> None:
    assert mask_personal("11010519491231002X") == "110105********002X"
    assert mask_personal("13812345678") == "138****5678"
    assert mask_personal("+8613812345678") == "+86138****5678"
    assert mask_personal("4539 5787 6362 1486") == "4539 **** **** 1486"
    assert mask_personal("anna@example.com") == "a***@example.com"
    assert mask_personal('{"tel":["13812345678"]}', ("email",)) == '{"tel":["13812345678"]}'
    assert json.loads(mask_personal('{"tel":["13812345678"]}')) == {"tel": ["138****5678"]}


@given(st.integers(0, 10**15))
def test_luhn_finds_every_single_digit_error(number: int) -> None:
    body = str(number)
    check = next(d for d in "0123456789" if passes_luhn(body + d))
    good = body + check
    for place in range(len(good)):
        wrong = str((int(good[place]) + 1) % 10)
        assert not passes_luhn(good[:place] + wrong + good[place + 1 :])


@given(st.text("01X-1389 a@.中", max_size=40))
def test_a_masked_text_keeps_its_length_and_holds_less(text: str) -> None:
    masked = mask_personal(text)
    assert len(masked) == len(text)
    assert re.sub(r"\*", "", masked).count("") <= len(text) + 1
    assert not any(is_identity_number(masked[i : i + 18]) for i in range(len(masked)))


LANGUAGE = [
    ("你好，我们是中国人", "Hans"),
    ("國際貿易公司於民國", "Hant"),
    ("你好", "Han"),
    ("Hello my friend", "English"),
    ("ünïcödé straße äöü", "Latin, other"),
    ("これは日本語です", "Japanese"),
    ("안녕하세요", "Korean"),
    ("привет", "other"),
    ("123 !", "none"),
    ("张三和李四在谷歌 works at Google", "mixed"),
]


def test_languages() -> None:
    counts = count_kinds([text for text, _ in LANGUAGE])
    assert [LANGUAGES[place] for place in languages(counts)] == [name for _, name in LANGUAGE]
    assert mixes_scripts(count_kinds(["國際贸易发展", "国际贸易", "著名后来"])).tolist() == [True, False, False]
    assert count_kinds([]).shape[0] == 0


TURNS = [
    ([("user", "a"), ("assistant", "b")], ""),
    ([("system", "s"), ("user", "a"), ("assistant", "f()"), ("tool", "1"), ("assistant", "b")], ""),
    ([("user", "a"), ("assistant", "b"), ("user", "c")], "ends with user"),
    ([("assistant", "b")], "begins with assistant"),
    ([("user", "a"), ("user", "b")], "turn 2: user after user"),
    ([("user", "a"), ("assistant", " ")], "turn 2: empty"),
    ([("user", "a"), ("boss", "b")], "turn 2: unknown role 'boss'"),
    ([], "no turns"),
]


@pytest.mark.parametrize(("turns", "fault"), TURNS)
def test_turns(turns: list[tuple[str, str]], fault: str) -> None:
    assert turn_fault(json.dumps([{"role": role, "content": text} for role, text in turns])) == fault
