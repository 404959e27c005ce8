"""BLEU and chrF of summed row statistics equal sacreBLEU's own corpus scores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from core.evaluation.metrics import generation, rouge
from core.evaluation.metrics.rows import Sums
from core.evaluation.scoring import score_frame

TEXTS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat", ".", "猫", "坐在", "垫子上", "a,b", "3.5"]), max_size=9).map(
    " ".join
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_equal_to_sacrebleu(rows: list[tuple[str, str]]) -> None:
    predictions, references = [p for p, _ in rows], [r for _, r in rows]
    tokeniser = generation.bleu_tokeniser(references)
    ours = generation.bleu_statistics(predictions, references, tokeniser)
    expected = sacrebleu.corpus_bleu(predictions, [references], tokenize=tokeniser, force=True).score
    assert float(generation.bleu(ours.sums())) == pytest.approx(expected, abs=1e-9)
    expected = sacrebleu.corpus_chrf(predictions, [references]).score
    assert float(generation.chrf(generation.chrf_statistics(predictions, references).sums())) == pytest.approx(expected, abs=1e-9)


def test_many_sums_at_once_equal_one_by_one() -> None:
    texts = ["the cat sat on the mat today", "a b c d e f", "no match", "猫坐在垫子上面了"]
    statistics = generation.bleu_statistics(texts, texts[::-1], "13a").beside(
        generation.chrf_statistics(texts, texts[1:] + texts[:1])
    )
    weights = np.random.default_rng(0).integers(0, 3, (20, 4)).astype(float)
    sums = Sums(statistics.names, weights @ statistics.values)
    for metric in (generation.bleu, generation.chrf):
        together = metric(sums)
        assert together.shape == (20,)
        for i in range(20):
            assert together[i] == pytest.approx(float(metric(Sums(sums.names, sums.values[i]))), abs=1e-12)


def test_identical_chinese_is_perfect() -> None:
    texts = ["今天天气很好，我们去公园玩。"]
    tokeniser = generation.bleu_tokeniser(texts)
    assert tokeniser == "zh"
    assert float(generation.bleu(generation.bleu_statistics(texts, texts, tokeniser).sums())) == pytest.approx(100)


@pytest.mark.parametrize(
    ("text", "han"),
    [("abc", False), ("中", True), ("𠮷", True), ("、。！", False), ("ひらがな", False), ("〇", True), ("", False)],
)
def test_has_han(text: str, han: bool) -> None:
    assert generation.has_han(text) is han


def lcs(left: list[str], right: list[str]) -> int:
    """Longest common subsequence, the plain way."""
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_rouge_l_by_hand(rows: list[tuple[str, str]]) -> None:
    expected = []
    for prediction, reference in rows:
        said, gold = rouge.tokens(prediction), rouge.tokens(reference)
        expected.append(2 * lcs(said, gold) / (len(said) + len(gold)) if said or gold else 1.0)
    scores = score_frame({"output": [r for _, r in rows], "prediction": [p for p, _ in rows]}, "generation").scores
    assert scores["rouge_l"] == pytest.approx(sum(expected) / len(rows))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The cat's mat, 3.5%", ["the", "cat", "s", "mat", "3", "5"]),
        ("今天下雨。", ["今", "天", "下", "雨"]),
        ("用iPhone15拍照", ["用", "iphone15", "拍", "照"]),
        ("", []),
    ],
)
def test_rouge_tokens(text: str, tokens: list[str]) -> None:
    assert rouge.tokens(text) == tokens


def test_agrees_with_sacrebleu_command_line(tmp_path: Path) -> None:
    predictions = ["The cat sat on the mat .", "It is a good day, isn't it?", "Prices rose 3.5% in May."]
    references = ["The cat is on the mat.", "It's a good day, isn't it?", "Prices rose by 3.5% in May."]
    (tmp_path / "hyp").write_text("\n".join(predictions))
    (tmp_path / "ref").write_text("\n".join(references))
    command = [sys.executable, "-m", "sacrebleu", str(tmp_path / "ref"), "-i", str(tmp_path / "hyp")]
    done = subprocess.run([*command, "-m", "bleu", "chrf", "-b", "-w", "6"], capture_output=True, text=True, check=True)
    expected = [float(n) for n in done.stdout.replace("[", " ").replace("]", " ").replace(",", " ").split()]
    bleu = generation.bleu(generation.bleu_statistics(predictions, references, "13a").sums())
    chrf = generation.chrf(generation.chrf_statistics(predictions, references).sums())
    assert [float(bleu), float(chrf)] == pytest.approx(expected, abs=1e-6)
