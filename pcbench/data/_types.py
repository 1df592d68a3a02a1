"""What a loaded data set is."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Examples in memory.

    Attributes:
        inputs: ``(examples, ...)``: images float32 ``(examples, channels, height, width)``, or character numbers int64
            ``(examples, length)``.
        targets: class numbers, int64 ``(examples,)``.
        bucketed: whether batches are made of texts of nearly the same length, without the padding that all of a
            batch's texts have; see `pcbench.data._texts.batches`.
    """

    inputs: Tensor
    targets: Tensor
    bucketed: bool = False


@dataclass(frozen=True)
class Dataset:
    """A data set whose files have verified.

    Attributes:
        name: as on the command line.
        train, test: its fixed splits.
        classes: the classes' names.
        sha256: the digest of all its files' content; `pcbench.data.load` fills it in.
        vocabulary: for text, what each input number stands for: 0 is padding, 1 what the training
            split does not contain.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    sha256: str = ""
    vocabulary: tuple[str, ...] | None = None
