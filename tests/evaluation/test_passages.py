"""Arms with passages: cutting, finding in Chinese and English, the guard against answers, what is kept and said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputFileError, SpecError, UserError
from core.evaluation import documents
from core.evaluation.documents import Document, passages, read_documents, units
from core.evaluation.passages import freeze, open_library
from core.evaluation.runner import run_evaluation
from core.prompts.bm25 import K1, B, Bm25, terms
from core.prompts.templates import find_template
from core.records import Arm, Evaluation, EvaluationSpec, ModelRef, Passages, SilentReporter
from core.store.files import area
from core.store.runs import evaluation_folder
from tests.evaluation.toy import right_answer

CHINESE = "劳动合同应当以书面形式订立。试用期最长不得超过六个月。\n\n加班工资按一点五倍支付。年休假为五天。"
ENGLISH = "# Refund policy\n\nRefunds are paid within ten days. Shipping costs stay with the buyer.\n\nGifts can't be returned."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "handbook"
    path.mkdir()
    (path / "劳动.txt").write_text(CHINESE, "utf-8")
    (path / "shop.md").write_text(ENGLISH, "utf-8")
    lines = [{"text": "Oslo is the capital of Norway.", "title": "Oslo"}, {"text": "Bergen lies on the west coast."}]
    (path / "towns.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", "utf-8")
    (path / ".DS_Store").write_bytes(b"\x00")
    return path


def library(folder: Path, **options: Any) -> Any:
    return open_library(freeze(Passages(folder=str(folder), **{"size": 20, "overlap": 0, **options})))


def best(folder: Path, question: str, **options: Any) -> str:
    found = library(folder, **options).find({"input": question, "output": ""}, "generation")
    return found[0].passage.text if found else ""


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-8-sig"])
def test_documents_are_read_in_their_own_encoding(folder: Path, encoding: str) -> None:
    (folder / "劳动.txt").write_bytes(CHINESE.replace("\n", "\r\n").encode(encoding))
    assert next(document.text for document in read_documents(folder) if document.source == "劳动.txt") == CHINESE
    assert "试用期最长不得超过六个月" in best(folder, "试用期可以多长？")


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("试用期可以多长？", "试用期最长不得超过六个月"),
        ("加班工资怎么算", "加班工资按一点五倍支付"),
        ("When are refunds paid?", "Refunds are paid within ten days"),
        ("ＢＥＲＧＥＮ 在哪里", "west coast"),
        ("Norway's capital", "Oslo is the capital"),
        ("квантовая физика", ""),
    ],
)
def test_found_in_both_languages(folder: Path, question: str, part: str) -> None:
    assert part in best(folder, question)


def test_passages_end_with_sentences_and_overlap() -> None:
    parts = list(passages(Document("t", CHINESE, "f.txt"), size=30, overlap=14))
    assert [p.text for p in parts] == [
        "劳动合同应当以书面形式订立。试用期最长不得超过六个月。",
        "试用期最长不得超过六个月。\n\n加班工资按一点五倍支付。年休假为五天。",
    ]
    assert all(CHINESE[p.start : p.end] == p.text for p in parts)
    assert units("Anna Berg 于2021年") == 5


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab 中文。.!\n，x_", max_size=300), st.integers(20, 40), st.integers(0, 19))
def test_passages_hold_all_words_and_are_never_too_long(text: str, size: int, overlap: int) -> None:
    parts = list(passages(Document("t", text, "s"), size, overlap))
    held = np.zeros(len(text), bool)
    for part in parts:
        assert text[part.start : part.end] == part.text
        assert 0 < units(part.text) <= size + 1  # a word cut by nothing but a passage's end counts in both
        held[part.start : part.end] = True
    assert all(held[i] for i, c in enumerate(text) if c.isalnum())


def test_bm25_is_the_formula() -> None:
    texts = ["张三在北京工作", "李四住在上海，喜欢北京", "Anna works in Oslo", "the Oslo office of Anna and Anna", ""]
    question = "北京的张三 Oslo oslo nothing"
    counts = [terms(t) for t in texts]
    mean = sum(map(len, counts)) / len(texts)
    expected = []
    for words in counts:
        total = 0.0
        for term in terms(question):
            df, tf = sum(term in other for other in counts), words.count(term)
            idf = np.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            total += idf * tf / (tf + K1 * (1 - B + B * len(words) / mean))
        expected.append(total)
    found = Bm25.of(texts).scores(question)
    # an empty text is one empty token to bm25s, which lengthens the mean by a fifth of a word
    assert found == pytest.approx(np.array(expected), rel=0.02)
    assert Bm25.of(["", ""]).scores("a").tolist() == [0, 0]


def test_the_index_is_kept_by_content(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = freeze(Passages(folder=str(folder), size=20, overlap=0))
    first = open_library(frozen)
    with monkeypatch.context() as patch:
        patch.setattr("core.evaluation.passages.read_documents", lambda _: pytest.fail("it was built again"))
        again = open_library(frozen)
    assert [p.text for p in again.parts] == [p.text for p in first.parts]
    assert again.index.scores("工资").tolist() == first.index.scores("工资").tolist()
    (folder / "shop.md").write_text("changed", "utf-8")
    assert open_library(frozen).documents == 4  # what was indexed is still there
    assert freeze(frozen).content != frozen.content
    with pytest.raises(UserError, match="have changed"):
        open_library(frozen.model_copy(update={"size": 21}))
    assert len(list(area("passages").iterdir())) == 1


def test_faults_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        freeze(Passages(folder=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no documents"):
        freeze(Passages(folder=str(tmp_path / "empty")))
    with pytest.raises(UserError, match="can't overlap"):
        freeze(Passages(folder=str(folder), size=20, overlap=20))
    (folder / "towns.jsonl").write_text('{"text": "a"}\n{"body": "b"}\n')
    with pytest.raises(InputFileError, match=r"towns.jsonl, line 2: no text"):
        list(read_documents(folder))
    (folder / "towns.jsonl").write_bytes(b"a \xff\x81 b")
    with pytest.raises(InputFileError, match=r"towns.jsonl isn't text in utf-8: .* at byte 2"):
        list(read_documents(folder))
    (folder / "scan.pdf").write_bytes(b"%PDF")
    with pytest.raises(UserError, match=r"scan\.pdf .* can't be read as a document"):
        documents.document_files(folder)


@pytest.mark.parametrize(
    ("task", "text", "withheld"),
    [
        ("extraction", 'r7: {"人": ["张三某某"], "地": ["奥斯陆市"]}', True),  # the whole answer, in its form
        ("extraction", "张三某某现在住在奥斯陆市，已经三年。", False),  # its values, as any text may hold them
        ("generation", "Answer: within ten days after the return.", False),  # what retrieval is for
        ("generation", "Q: 张三某某住在哪里，请回答\nA: within ten days after the return.", True),
        ("classification", "label: within ten days after the return.", False),
    ],
)
def test_a_passage_that_lists_the_answer_is_withheld(tmp_path: Path, task: Any, text: str, withheld: bool) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text(f"{text}", "utf-8")
    output = '{"人": ["张三某某"], "地": ["奥斯陆市"]}' if task == "extraction" else "within ten days after the return"
    found = library(tmp_path / "d", size=200)
    row = {"input": "张三某某住在哪里，请回答" if "Q:" in text else "张三某某住在哪里 answer label", "output": output}
    assert (not found.find(row, task)) == withheld
    assert found.told()["withheld_rows"] == int(withheld)


def test_an_arm_with_passages(make_evaluation: Callable[..., Evaluation], engine: Callable[..., Any], folder: Path) -> None:
    (folder / "answers.txt").write_text(f"{right_answer('张三24 住在 Oslo3')} 张三25 住在 Oslo4", "utf-8")
    evaluation = make_evaluation(template=find_template("rag-zh"))
    settings_ = freeze(Passages(folder=str(folder), k=2, size=40, overlap=0))
    arm = evaluation.spec.arm.model_copy(update={"passages": settings_})
    evaluation = evaluation.model_copy(update={"spec": evaluation.spec.model_copy(update={"arm": arm})})
    fake = engine(lambda prompt: "{}")
    done = run_evaluation(evaluation, SilentReporter(), fake)
    prompt = next(text for text in fake.prompts if text.rpartition("<|im_end|>")[0].endswith("张三25 住在 Oslo4"))
    assert "资料：\n[1]" in prompt
    assert done.signature["passages"].startswith("bm25s:lucene")
    assert f"k:2|size:40|overlap:0|documents:5:{settings_.content}" in done.signature["passages"]
    told = done.scores["passages"]
    assert told["rows"] == 40
    assert told["documents"] == 5
    assert told["withheld_rows"] >= 1
    assert told["text_in_passages"] >= 1
    kept = pq.read_table(evaluation_folder("e-1") / "passages.parquet").to_pylist()
    assert {line["rank"] for line in kept} <= {1, 2}
    assert not any(line["row_id"] == "r-0024" and line["source"] == "answers.txt" for line in kept)


def test_before_it_is_queued(dataset: str, tiny: Path, folder: Path) -> None:
    from core.jobs.submissions import prepare_evaluation

    def prepare(template: str) -> Evaluation:
        arm = Arm(model=ModelRef(source="path", name=str(tiny)), template=template, passages=Passages(folder=str(folder)))
        return prepare_evaluation(EvaluationSpec(dataset=dataset, arm=arm))

    with pytest.raises(SpecError, match="no place for passages"):
        prepare("json-zh")
    made = prepare("rag-en")
    assert made.name.endswith("3 passages of handbook")
    assert made.spec.arm.passages is not None
    assert len(made.spec.arm.passages.content) == 16
