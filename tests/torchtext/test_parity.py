"""The default environment's tokens and numbers are torchtext's, one by one.

The quiet failure aimed at: a vocabulary in another order or a token split elsewhere changes every accuracy a little.
"""

import json
import subprocess

import parity
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pcbench.data import _texts

REASON = "torchtext is not installed here: run `make test-torchtext`"
build_vocab_from_iterator = pytest.importorskip("torchtext.vocab", reason=REASON).build_vocab_from_iterator
basic_english = pytest.importorskip("torchtext.data", reason=REASON).get_tokenizer("basic_english")

PIECES = [
    "<br />",
    "<br",
    " />",
    '"',
    "'",
    *"Aba .,;:!?()-&#\\",
    "\x1c",
    "\x85",
    "\xa0",
    "Σ",
    "İ",
    "ß",
    "\u0301",
    "<unk>",
]
ANY = st.characters(exclude_categories=["Cs"])  # a file in UTF-8 holds no surrogates
TEXT = st.one_of(st.text(ANY), st.lists(st.sampled_from(PIECES)).map("".join))


def test_every_row_of_ag_news_test_file_agrees_across_environments(tmp_path):
    python = parity.ROOT / ".venv" / "bin" / "python"
    if parity.official_texts() is None:
        pytest.skip(parity.MISSING)
    if not python.exists():
        pytest.skip("the default environment .venv is not here: run `make test` first")
    ours, theirs = tmp_path / "pcbench.json", tmp_path / "torchtext.json"
    subprocess.run([python, parity.__file__, "write", "pcbench", ours], check=True)
    assert parity.main("write", "torchtext", theirs) == 0
    figures = parity.compare(json.loads(ours.read_text("utf-8")), json.loads(theirs.read_text("utf-8")))
    assert figures["texts"] == 7600 + len(parity.ADVERSARIAL)
    assert figures["not in the vocabulary"] > 1000
    assert {figure: number for figure, number in figures.items() if "mismatches" in figure and number} == {}


@pytest.mark.parametrize("text", parity.ADVERSARIAL, ids=range(len(parity.ADVERSARIAL)))
def test_an_adversarial_text_has_the_tokens_of_basic_english(text):
    assert _texts.tokenise(text) == basic_english(text)


def test_every_character_splits_words_or_does_not_as_in_basic_english():
    characters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    text = "".join(f"a{character}b \n" for character in characters)
    assert _texts.tokenise(text) == basic_english(text)


@given(TEXT)
def test_any_text_has_the_tokens_of_basic_english(text):
    assert _texts.tokenise(text) == basic_english(text)


@given(st.lists(TEXT), st.lists(TEXT), st.one_of(st.none(), st.integers(3, 10)))
@example(["<unk> <unk> b b a a <pad>"], ["a <unk> c"], 4)
def test_any_texts_have_the_vocabulary_and_the_numbers_of_torchtext(texts, others, size):
    expected = build_vocab_from_iterator(map(basic_english, texts), specials=list(_texts.SPECIALS), max_tokens=size)
    expected.set_default_index(expected["<unk>"])
    words = _texts.vocabulary(texts, size)
    assert list(words) == expected.get_itos()
    assert _texts.encode(others, words) == [expected(basic_english(text)) for text in others]
