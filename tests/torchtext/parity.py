"""Tokens and numbers of the same texts, by PCBench and by torchtext, each in its own environment, compared through files.

    .venv/bin/python           tests/torchtext/parity.py write pcbench   A.json
    .venv-torchtext/bin/python tests/torchtext/parity.py write torchtext B.json
    .venv/bin/python           tests/torchtext/parity.py compare A.json B.json

The vocabulary is that of every second text, so that the others have tokens that are not in it.
"""

import csv
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MISSING = "AG News' test.csv is not here: name it in the environment variable PCBENCH_AG_NEWS_TEST"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
ADVERSARIAL = (
    "",
    " \t\n ",
    '"',
    '""',
    PUNCTUATION,
    " ".join(PUNCTUATION),
    "a".join(PUNCTUATION),
    "it's 'quoted' \"twice\" ''",
    "one<br />two<br/>three<br  />four<BR />five",
    'hidden<br "/>break <b"r /> <br />" "<br />',
    "<br /><br />< br />",
    "a...b,,c;;d::e!!f??g((h))",
    "tab\tvertical\x0bform\x0creturn\rline\n",
    "nul\x00 bell\x07 escape\x1b delete\x7f",
    "separators\x1cof\x1dfiles\x1egroups\x1frecords",
    "next\x85line no\xa0break ogham\u1680space em\u2003space line\u2028and\u2029paragraph narrow\u202f wide\u3000",
    "zero\u200bwidth joiner\u200dand mark\ufeffare not spaces",
    "İSTANBUL Iİıi STRAẞE ẞ ß ǅ ǈ",
    "ΟΔΥΣΣΕΥΣ Σ ΑΣ. ΑΣ'Σ Σ̈Α ΣΣ",
    "Café CAFE\u0301 Å Ω Å",
    "ﬁ ﬂ Ⅷ Ⓐ ᏸ Ꭰ ꭰ",
    "𐐀𐐁 𝐀 🙂 👩‍👩‍👧 🇬🇧",
    "你好，世界。 これは「テスト」です！ ؟ ، ؛",
    "curly ‘quotes’ “here” – dash — dash … dots",
    "<pad> <unk> a<unk>b <PAD>",
    "&lt;b&gt; #39; \\ \\n $1.5 10,000",
    "x" * 1000,
)


def official_texts():
    """Where AG News' official test file is; None if it is not here."""
    named = os.environ.get("PCBENCH_AG_NEWS_TEST")
    path = Path(named) if named else ROOT.parent / "shared" / "data" / "ag_news_csv" / "test.csv"
    return path if path.is_file() else None


def texts():
    """The texts of AG News' test file, if it is here, and the adversarial ones."""
    path = official_texts()
    if path is None:
        return list(ADVERSARIAL)
    with open(path, encoding="utf-8") as file:
        return [" ".join(row[1:]) for row in csv.reader(file)] + list(ADVERSARIAL)


def by_pcbench(texts):
    """The vocabulary, and each text's tokens and numbers."""
    from pcbench.data import _texts

    words = _texts.vocabulary(texts[::2])
    tokens = [_texts.tokenise(text) for text in texts]
    return {"vocabulary": list(words), "tokens": tokens, "numbers": _texts.encode(texts, words)}


def by_torchtext(texts):
    """See `by_pcbench`."""
    import torchtext

    torchtext.disable_torchtext_deprecation_warning()
    from torchtext.data import get_tokenizer
    from torchtext.vocab import build_vocab_from_iterator

    tokens = list(map(get_tokenizer("basic_english"), texts))
    vocabulary = build_vocab_from_iterator(tokens[::2], specials=["<pad>", "<unk>"])
    vocabulary.set_default_index(vocabulary["<unk>"])
    return {"vocabulary": vocabulary.get_itos(), "tokens": tokens, "numbers": list(map(vocabulary, tokens))}


def compare(ours, theirs):
    """The figures of a comparison: rows of name and number. A token or number that only one side has is a mismatch."""

    def mismatches(key):
        pairs = list(zip(ours[key], theirs[key], strict=True))
        return sum(abs(len(a) - len(b)) + sum(x != y for x, y in zip(a, b, strict=False)) for a, b in pairs)

    a, b = ours["vocabulary"], theirs["vocabulary"]
    return {
        "texts": len(theirs["tokens"]),
        "of these adversarial": len(ADVERSARIAL),
        "tokens": sum(map(len, theirs["tokens"])),
        "not in the vocabulary": sum(numbers.count(1) for numbers in theirs["numbers"]),
        "vocabulary": len(b),
        "mismatches in tokens": mismatches("tokens"),
        "mismatches in numbers": mismatches("numbers"),
        "mismatches in the vocabulary": abs(len(a) - len(b)) + sum(x != y for x, y in zip(a, b, strict=False)),
    }


def main(command, *arguments):
    """Run one of the commands above; `compare` exits with 1 if anything differs."""
    if command == "write":
        backend, path = arguments
        result = {"pcbench": by_pcbench, "torchtext": by_torchtext}[backend](texts())
        Path(path).write_text(json.dumps(result), encoding="utf-8")
        return 0
    from tabulate import tabulate

    figures = compare(*(json.loads(Path(path).read_text(encoding="utf-8")) for path in arguments))
    print(tabulate(figures.items(), headers=["pcbench against torchtext", ""], intfmt=",", tablefmt="github"))
    if figures["texts"] == len(ADVERSARIAL):
        print(MISSING)
    return int(any(number for name, number in figures.items() if "mismatches" in name))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
