"""Encodings are told apart, and no byte is lost on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.encoding import decode, detect, has_bad_bytes, name_bad_bytes, show_bad_bytes

HANS = "甲方为北京市朝阳区人民法院，案由：买卖合同纠纷。双方当事人于2019年3月签订合同，约定货款人民币五万元整。"
HANT = "甲方為臺北市中正區地方法院，案由：買賣契約糾紛。雙方當事人於2019年3月簽訂契約，約定貨款新臺幣五萬元整。"
FRENCH = "L'été à la plage, où il a mangé des pâtes très salées; ça coûte 3 €.\n"
LINES = '{{"input": "{}", "output": "x"}}\n'


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        (HANS, "utf-8", "utf-8"),
        (HANS, "utf-8-sig", "utf-8-sig"),
        (HANS, "utf-16", "utf-16"),
        (HANS, "utf-16-le", "utf-16-le"),
        (HANS, "utf-16-be", "utf-16-be"),
        (HANS, "gbk", "gb18030"),
        (HANS, "gb18030", "gb18030"),
        (HANT, "big5", "big5"),
        (HANT, "gb18030", "gb18030"),
        ("plain ASCII text", "ascii", "utf-8"),
        ("plain ASCII text", "utf-16-le", "utf-16-le"),
        ("日本語のテキスト、これは例です", "utf-8", "utf-8"),
        ("😀 emoji é", "utf-8", "utf-8"),
    ],
)
@pytest.mark.parametrize("repeats", [1, 40])
def test_encodings_are_detected(text: str, encoding: str, found: str, repeats: int) -> None:
    whole = LINES.format(text) * repeats
    made = detect([whole.encode(encoding)])
    assert made.name == found
    assert made.clean
    assert "".join(decode([whole.encode(encoding)], made.name)) == whole


def test_short_csv_in_gbk() -> None:
    assert detect(["文本,标签\n我要退款,售后\n".encode("gbk")]).name == "gb18030"


def test_western_text_is_told_from_chinese() -> None:
    made = detect([(FRENCH * 6).encode("cp1252")])
    assert (made.name, made.clean) == ("cp1252", True)


@pytest.mark.parametrize("stray", [b"\xe9", b"\xff", b"\xed\xa0\xbc\xed\xbd\x95", b"\xc3("])
@pytest.mark.parametrize("around", ["plain", HANS, "é ü ñ"])
def test_a_stray_byte_does_not_change_the_encoding(stray: bytes, around: str) -> None:
    content = LINES.format(around).encode() * 9 + b'{"input": "' + stray + b'"}\n' + LINES.format(around).encode() * 9
    made = detect([content])
    assert (made.name, made.clean) == ("utf-8", False)
    lines = "".join(decode([content], made.name)).split("\n")
    assert [n for n, line in enumerate(lines) if has_bad_bytes(line)] == [9]


def test_a_stray_byte_in_gbk_costs_its_line_only() -> None:
    line = f"{HANS},标签\n".encode("gbk")
    content = line * 5 + b"\xff\n" + line * 5
    made = detect([content])
    assert made.name == "gb18030"
    lines = "".join(decode([content], made.name)).split("\n")
    assert [n for n, text in enumerate(lines) if has_bad_bytes(text)] == [5]


def test_bad_bytes_are_shown_and_named() -> None:
    text = "".join(decode([b"a\xe9b\xff"], "utf-8"))
    assert show_bad_bytes(text) == "a\\xe9b\\xff"
    assert name_bad_bytes(text, "utf-8-sig") == "bytes \\xe9, \\xff can't be decoded as utf-8"


@given(st.text(max_size=200), st.integers(1, 7), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"]))
def test_decoding_does_not_depend_on_blocks(text: str, size: int, encoding: str) -> None:
    content = text.encode(encoding)
    blocks = [content[i : i + size] for i in range(0, len(content), size)]
    assert "".join(decode(blocks, encoding)) == text


@given(st.binary(max_size=200), st.integers(1, 7))
def test_no_byte_is_lost_in_utf8(content: bytes, size: int) -> None:
    text = "".join(decode([content[i : i + size] for i in range(0, len(content), size)], "utf-8"))
    back = b"".join(bytes([ord(c) - 0xDC00]) if 0xDC00 <= ord(c) <= 0xDCFF else c.encode() for c in text)
    assert back == content


@given(st.binary(max_size=400))
def test_detection_never_fails(content: bytes) -> None:
    made = detect([content])
    "".join(decode([content], made.name))
