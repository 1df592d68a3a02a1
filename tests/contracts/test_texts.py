"""Texts become the numbers that torchtext's documentation promises, and batches a pure function of lengths and seed.

Worked out by hand; `tests/torchtext` compares with torchtext itself. The quiet failures aimed at: a vocabulary whose ties
depend on the run, padding where a network reads its last token, a text that is in no batch or in two.
"""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcbench.data._texts import batches, buckets, encode, encode_padded, token_counts, tokenise, vocabulary


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("You can now install TorchText using pip!", "you can now install torchtext using pip !"),
        ('It\'s 9:00; "Go" (now).<br />End?', "it ' s 9 00 go ( now ) . end ?"),
        ("a\xa0b\x1fc\u2003d\u200be", "a b c d\u200be"),
        ("<BR /> <br/>", "<br/>"),
        ('<br "/>', ""),
        ("ΑΣ İ", "ας i̇"),
        ("", ""),
    ],
)
def test_basic_english_tokens(text, tokens):
    assert tokenise(text) == tokens.split(" ") * bool(tokens)


def test_a_vocabulary_is_ordered_by_frequency_then_by_code_point():
    texts = ["b a c c", "é z a b C <unk>", "\U00010000 \uffff"]
    expected = ("<pad>", "<unk>", "c", "a", "b", "z", "é", "\uffff", "\U00010000")
    assert vocabulary(texts) == vocabulary(texts[::-1]) == expected
    assert vocabulary(texts, size=5) == expected[:5]


def test_what_is_not_in_the_vocabulary_is_unknown_and_special_names_are_words():
    words = vocabulary(["a b"])
    assert encode(["a z B", "<pad> <unk> a<unk>", ""], words) == [[2, 1, 3], [0, 1, 1], []]


def test_padding_is_in_front_and_long_texts_are_cut_at_the_end():
    words = vocabulary(["a b c"])
    expected = [[0, 0, 2], [2, 3, 4], [0, 0, 0]]
    assert encode_padded(["a", "a b c a", ""], words, 3).tolist() == expected
    assert token_counts(torch.tensor(expected)).tolist() == [1, 3, 0]


def generator(seed):
    return torch.Generator().manual_seed(seed)


LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=60).map(torch.tensor)


@given(LENGTHS, st.integers(1, 9), st.integers(0, 3))
def test_every_text_is_in_one_batch_and_batches_do_not_overlap_in_length(lengths, size, seed):
    found = buckets(lengths, size, generator(seed))
    assert sorted(torch.cat(found).tolist()) == list(range(len(lengths)))
    assert sorted(map(len, found))[1:] == [size] * (len(found) - 1)
    by_length = sorted((lengths[batch].min().item(), lengths[batch].max().item()) for batch in found)
    assert all(before[1] <= after[0] for before, after in pairwise(by_length))


@given(LENGTHS, st.integers(1, 9))
def test_batches_depend_on_lengths_and_seed_alone(lengths, size):
    first, again = (buckets(lengths, size, generator(1)) for _ in range(2))
    assert all(map(torch.equal, first, again))


def test_another_seed_is_another_order():
    lengths = torch.arange(64) % 5
    orders = {tuple(torch.cat(buckets(lengths, 4, generator(seed))).tolist()) for seed in range(4)}
    assert len(orders) == 4


@given(LENGTHS, st.integers(1, 9))
def test_a_batch_loses_common_padding_and_no_token(lengths, size):
    inputs = torch.zeros(len(lengths), 40, dtype=torch.int64)
    for row, length in zip(inputs, lengths.tolist(), strict=True):
        row[40 - length :] = 7
    for texts, numbers in batches(inputs, size, generator(0), multiple=8):
        assert numbers.shape[1] % 8 == 0
        assert numbers.shape[1] - max(int(lengths[texts].max()), 1) < 8
        assert torch.equal((numbers != 0).sum(1), lengths[texts])
