"""From texts to numbers, exactly as torchtext's ``basic_english`` tokenizer and frequency-ordered vocabulary do it.

torchtext is no longer maintained; ``tokenizers`` is. `tests/torchtext` compares the two, token for token.
"""

import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer

SPECIALS = PADDING, UNKNOWN = "<pad>", "<unk>"  # numbers 0 and 1, see `pcbench.data.Dataset.vocabulary`

# torchtext rewrites a text by eleven substitutions in a row, then splits it at white space. Said without the detour:
# quotes and line breaks go first (a quote inside ``<br />`` hides it from no one), marks are tokens of their own, and
# the rest is split at white space, which for Python includes four control characters, and at ``;`` and ``:``.
_NORMALISER = normalizers.Sequence([normalizers.Replace('"', ""), normalizers.Replace("<br />", " ")])
_SPLITTER = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(r"[\s\x1c-\x1f;:]+"), "removed"),
        pre_tokenizers.Split(Regex(r"['.,()!?]"), "isolated"),
    ]
)


def tokenise(text):
    """The tokens of one text, a list of strings; `encode` does it faster for many."""
    normalised = _NORMALISER.normalize_str(*_lowered([text]))
    return [token for token, _ in _SPLITTER.pre_tokenize_str(normalised)]


def vocabulary(texts, size=None):
    """The tokens of ``texts``: `SPECIALS`, then by descending frequency, tokens of one frequency in code point order.

    Equals ``build_vocab_from_iterator(..., specials=SPECIALS, max_tokens=size).get_itos()``.

    Args:
        texts: list of strings.
        size: how many tokens at most, `SPECIALS` included; all of them if None.

    Returns:
        Tuple of strings.
    """
    counter = _tokenizer({})
    most = len(SPECIALS) + sum(map(len, texts)) if size is None else size  # no text has more tokens than characters
    # The trainer is not told of SPECIALS: it would cut them out of the middle of words.
    trainer = WordLevelTrainer(vocab_size=most - len(SPECIALS), special_tokens=[], show_progress=False)
    counter.train_from_iterator(_lowered(texts), trainer)
    numbers = counter.get_vocab()
    return (*SPECIALS, *(token for token in sorted(numbers, key=numbers.get) if token not in SPECIALS))


def encode(texts, vocabulary):
    """The number of each token of each text in ``vocabulary``; 1 for a token that is not in it.

    Returns:
        List of lists of int, one for each text.
    """
    return [encoding.ids for encoding in _encodings(_numbering(vocabulary), texts)]


def encode_padded(texts, vocabulary, length):
    """Like `encode`, as one tensor: texts are cut after ``length`` tokens, shorter ones padded with 0 at the *front*.

    So the last time step is every text's last token, and a many-to-one network needs no mask.

    Returns:
        int64 ``(texts, length)``.
    """
    tokenizer = _numbering(vocabulary)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(direction="left", pad_id=0, pad_token=PADDING, length=length)
    numbers = torch.empty(len(texts), length, dtype=torch.int64)
    for start in range(0, len(texts), _CHUNK):
        encodings = _encodings(tokenizer, texts[start : start + _CHUNK])
        numbers[start : start + _CHUNK] = torch.tensor([encoding.ids for encoding in encodings])
    return numbers


def buckets(lengths, batch_size, generator):
    """Batches of texts of nearly the same length: shuffled, sorted by length, cut up, and the batches shuffled.

    A pure function of its arguments: texts of one length stay in the order that was drawn.

    Args:
        lengths: int64 ``(texts,)``.
        batch_size: how many texts a batch has; one of them may have fewer.
        generator: a ``torch.Generator`` on the CPU, such as `pcbench.provenance.stream` makes.

    Returns:
        List of int64 tensors: the texts of each batch. Every text is in one of them.
    """
    order = torch.randperm(len(lengths), generator=generator)
    batches = order[lengths[order].argsort(stable=True)].split(batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def batches(inputs, batch_size, generator, multiple=8):
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


def token_counts(inputs):
    """How many tokens each padded text has: int64 ``(texts,)`` for ``(texts, length)``."""
    steps = torch.arange(inputs.shape[1], 0, -1)  # from each position to the end, itself included
    return ((inputs != 0) * steps).amax(1)


def _lowered(texts):
    # Not by `normalizers.Lowercase`: it knows no final sigma, and another version of Unicode than Python does.
    return [text.lower() for text in texts]


def _tokenizer(numbers):
    tokenizer = Tokenizer(WordLevel(numbers, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _NORMALISER, _SPLITTER
    return tokenizer


def _numbering(vocabulary):
    return _tokenizer({token: number for number, token in enumerate(vocabulary)})


def _encodings(tokenizer, texts):
    return tokenizer.encode_batch_fast(_lowered(texts), add_special_tokens=False)


_CHUNK = 4096  # texts: an encoding is an object of some kilobytes
