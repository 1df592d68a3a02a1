"""From texts to numbers, exactly as torchtext's ``basic_english`` tokenizer and frequency-ordered vocabulary do it.

torchtext is no longer maintained; `tests/torchtext` compares the two, token for token. The library ``tokenizers`` can
do the same, but takes three to four times the processor time for it: tried on AG News and IMDB.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

SPECIALS = ("<pad>", "<unk>")  # numbers 0 and 1, see `pcbench.data.Dataset.vocabulary`

# torchtext's own substitutions, in its order: a quote inside ``<br />`` hides it from no one.
_SUBSTITUTIONS = (
    ("'", " ' "),
    ('"', ""),
    (".", " . "),
    ("<br />", " "),
    (",", " , "),
    ("(", " ( "),
    (")", " ) "),
    ("!", " ! "),
    ("?", " ? "),
    (";", " "),
    (":", " "),
)


def tokenise(text: str) -> list[str]:
    """The tokens of one text."""
    text = text.lower()
    for old, new in _SUBSTITUTIONS:
        text = text.replace(old, new)  # a regular expression for all of them would be slower
    return text.split()


def vocabulary(texts: Iterable[str], size: int | None = None) -> tuple[str, ...]:
    """The tokens of ``texts``: `SPECIALS`, then by descending frequency, tokens of one frequency in code point order.

    Equals ``build_vocab_from_iterator(..., specials=SPECIALS, max_tokens=size).get_itos()``.

    Args:
        texts: the training split's.
        size: how many tokens at most, `SPECIALS` included; all of them if None.
    """
    frequencies = Counter(chain.from_iterable(map(tokenise, texts)))
    tokens = sorted(frequencies, key=lambda token: (-frequencies[token], token))
    if size is not None:
        tokens = tokens[: size - len(SPECIALS)]
    # A text may contain the names of SPECIALS: they count among the most frequent tokens, and are then left out.
    return (*SPECIALS, *(token for token in tokens if token not in SPECIALS))


def encode(texts: Iterable[str], vocabulary: Iterable[str]) -> list[list[int]]:
    """The number of each token of each text in ``vocabulary``; 1 for a token that is not in it."""
    numbers = {token: number for number, token in enumerate(vocabulary)}
    return [[numbers.get(token, 1) for token in tokenise(text)] for text in texts]


def encode_padded(texts: Sequence[str], vocabulary: Iterable[str], length: int) -> Tensor:
    """Like `encode`, as one tensor: texts are cut after ``length`` tokens, shorter ones padded with 0 at the *front*.

    So the last time step is every text's last token, and a many-to-one network needs no mask.

    Returns:
        int64 ``(texts, length)``.
    """
    padded = torch.zeros(len(texts), length, dtype=torch.int64)
    rows = padded.numpy()  # the same memory; to assign to a row of a tensor would take several times as long
    for row, numbers in zip(rows, encode(texts, vocabulary), strict=True):
        cut = numbers[:length]
        row[length - len(cut) :] = cut
    return padded


def buckets(lengths: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Batches of texts of nearly the same length: shuffled, sorted by length, cut up, and the batches shuffled.

    A pure function of its arguments: texts of one length stay in the order that was drawn.

    Args:
        lengths: int64 ``(texts,)``.
        batch_size: how many texts a batch has; one of them may have fewer.
        generator: on the CPU, such as `pcbench.randomness.stream` makes.

    Returns:
        The texts of each batch, int64 ``(batch,)``. Every text is in one of them.
    """
    order = torch.randperm(len(lengths), generator=generator)
    batches = order[lengths[order].argsort(stable=True)].split(batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def batches(
    inputs: Tensor, batch_size: int, generator: torch.Generator, multiple: int = 8
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(texts, numbers)`` for each of the `buckets`, without the padding that all of its texts have.

    Args:
        inputs: int64 ``(texts, length)``, from `encode_padded`.
        batch_size, generator: see `buckets`.
        multiple: lengths are rounded up to a multiple of it: a network is traced anew for every length.

    Yields:
        ``texts``, int64 ``(batch,)``, and ``inputs[texts]`` less its common padding, int64 ``(batch, shorter)``.
    """
    lengths = token_counts(inputs)
    for texts in buckets(lengths, batch_size, generator):
        longest = max(int(lengths[texts].max()), 1)
        width = min(-(-longest // multiple) * multiple, inputs.shape[1])
        yield texts, inputs[texts, -width:]


def token_counts(inputs: Tensor) -> Tensor:
    """How many tokens each padded text has: int64 ``(texts,)`` for ``(texts, length)``."""
    steps = torch.arange(inputs.shape[1], 0, -1)  # from each position to the end, itself included
    return ((inputs != 0) * steps).amax(1)
