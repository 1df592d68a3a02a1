"""The formats of image data sets, read by torchvision, from files that were verified before."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pcbench.data._archives import HEADERS, copy, gunzip, untar
from pcbench.data._store import Archive, File, Spec, published
from pcbench.data._types import Dataset, Split

# The checksums of decompressed content are not torchvision's (it publishes MD5s of the archives, and of CIFAR's and
# SVHN's content); each was found, the same, in several unrelated public projects, and beside torchvision's MD5.
# Nobody publishes KMNIST's: its archives' SHA-256 are verified instead.


def idx(
    name: str,
    dataset: type[Any],
    sha256: Sequence[str],
    mean: Sequence[float],
    deviation: Sequence[float],
    mirrors: Sequence[str] = (),
    archives_sha256: Sequence[str] | None = None,
    system: str | Path | None = None,
) -> Spec:
    """The `Spec` of a data set in MNIST's format: four gzip-compressed files, IDX.

    Args:
        name: as on the command line.
        dataset: torchvision's class.
        sha256: of each file's decompressed content, in the order of ``IDX_FILES``; empty if it is not known.
        mean, deviation: of the training pixels in [0, 1].
        mirrors: addresses besides torchvision's.
        archives_sha256: of each ``.gz``, where the content's is not known.
        system: a folder where the operating system may have the archives.
    """
    addresses = [address.rstrip("/") for address in (*dataset.mirrors, *mirrors)]
    archives = []
    for i, (file, size) in enumerate(IDX_FILES.items()):
        digest = f"sha256:{archives_sha256[i]}" if archives_sha256 else ""
        # torchvision looks for the decompressed files in such a folder.
        content = File(f"{dataset.__name__}/raw/{file}", sha256[i], size)
        urls = tuple(f"{address}/{file}.gz" for address in addresses)
        archives.append(Archive(f"{file}.gz", urls, (content,), gunzip, size, digest))
    return published(name, archives, partial(_read_idx, name, dataset, mean, deviation), system)


def cifar(
    name: str,
    dataset: type[Any],
    sha256: Mapping[str, str],
    sizes: Mapping[str, int],
    mean: Sequence[float],
    deviation: Sequence[float],
) -> Spec:
    """The `Spec` of a data set in CIFAR's format: Python pickles in one ``.tar.gz``.

    Args:
        name: as on the command line.
        dataset: torchvision's class.
        sha256: of each file's content, by its name; pickles are loaded only after they have verified.
        sizes: of these files, in bytes, at most.
        mean, deviation: of the training pixels in [0, 1], for each channel.
    """
    files = tuple(File(f"{dataset.base_folder}/{file}", sha256[file], sizes[file]) for file in sha256)
    archive = Archive(dataset.filename, (dataset.url,), files, untar, sum(sizes.values()) + HEADERS)
    return published(name, [archive], partial(_read_cifar, name, dataset, mean, deviation))


def svhn(
    name: str,
    dataset: type[Any],
    sha256: Mapping[str, str],
    sizes: Mapping[str, int],
    mean: Sequence[float],
    deviation: Sequence[float],
) -> Spec:
    """The `Spec` of a data set in SVHN's format: a MATLAB file for each split; see `cifar`, by split."""
    archives = []
    for split in sha256:
        url, file, _ = dataset.split_list[split]
        archives.append(Archive(file, (url,), (File(file, sha256[split], sizes[split]),), copy, sizes[split]))
    return published(name, archives, partial(_read_svhn, name, dataset, mean, deviation))


def _read_idx(name, dataset, mean, deviation, folder):
    def split(train):
        images = dataset(folder, train=train, download=False)
        return Split(_normalised(images.data.unsqueeze(1), mean, deviation), images.targets)

    return Dataset(name, split(True), split(False), tuple(dataset.classes))


def _read_cifar(name, dataset, mean, deviation, folder):
    train, test = (dataset(folder, train=train, download=False) for train in (True, False))

    def split(images):
        pixels = torch.from_numpy(images.data).permute(0, 3, 1, 2)
        return Split(_normalised(pixels, mean, deviation), torch.tensor(images.targets))

    return Dataset(name, split(train), split(test), tuple(train.classes))


def _read_svhn(name, dataset, mean, deviation, folder):
    def split(which):
        images = dataset(folder, split=which, download=False)
        return Split(_normalised(torch.from_numpy(images.data), mean, deviation), torch.from_numpy(images.labels))

    return Dataset(name, split("train"), split("test"), tuple("0123456789"))


def _normalised(pixels, mean, deviation):
    """Bytes ``(examples, channels, height, width)`` as float32, with mean 0 and standard deviation 1 in each channel."""
    mean, deviation = (torch.tensor(numbers).reshape(-1, 1, 1) for numbers in (mean, deviation))
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255).sub_(mean).div_(deviation)


IDX_FILES = {
    "train-images-idx3-ubyte": 47040016,
    "train-labels-idx1-ubyte": 60008,
    "t10k-images-idx3-ubyte": 7840016,
    "t10k-labels-idx1-ubyte": 10008,
}
