"""Image data sets, read by torchvision, from files that were verified before."""

from functools import partial
from pathlib import Path

import torch
import torchvision.datasets as official

from pcbench.data._archives import HEADERS, copy, gunzip, untar
from pcbench.data._store import Archive, File, published
from pcbench.data._types import Dataset, Split

# The checksums of decompressed content are not torchvision's (it publishes MD5s of the archives, and of CIFAR's and
# SVHN's content); each was found, the same, in several unrelated public projects, and beside torchvision's MD5.
# Nobody publishes KMNIST's: its archives' SHA-256 are verified instead.


def idx(name, dataset, sha256, mean, deviation, mirrors=(), archives_sha256=None, system=None):
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


def cifar(name, dataset, sha256, sizes, mean, deviation):
    """The `Spec` of a data set in CIFAR's format: Python pickles in one ``.tar.gz``.

    Args:
        name: as on the command line.
        dataset: torchvision's class.
        sha256: of each file's content, by its name; pickles are loaded only after they have verified.
        sizes: of these files, at most.
        mean, deviation: of the training pixels in [0, 1], for each channel.
    """
    files = tuple(File(f"{dataset.base_folder}/{file}", sha256[file], sizes[file]) for file in sha256)
    archive = Archive(dataset.filename, (dataset.url,), files, untar, sum(sizes.values()) + HEADERS)
    return published(name, [archive], partial(_read_cifar, name, dataset, mean, deviation))


def svhn(name, dataset, sha256, sizes, mean, deviation):
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

MNIST = idx(
    "mnist",
    official.MNIST,
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    (0.1307,),
    (0.3081,),
    mirrors=("https://storage.googleapis.com/cvdf-datasets/mnist",),
)
FASHION_MNIST = idx(
    "fashion-mnist",
    official.FashionMNIST,
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    (0.2860,),
    (0.3530,),
    mirrors=("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",),
    system=Path("/usr/share/datasets/fashion-mnist"),  # Debian's package dataset-fashion-mnist
)
KMNIST = idx(
    "kmnist",
    official.KMNIST,
    ("", "", "", ""),
    (0.1918,),
    (0.3483,),
    archives_sha256=(
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
)
CIFAR10 = cifar(
    "cifar10",
    official.CIFAR10,
    {
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
        "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
    },
    {**{f"data_batch_{i}": 32 * 10**6 for i in range(1, 6)}, "test_batch": 32 * 10**6, "batches.meta": 10**4},
    (0.4914, 0.4822, 0.4465),
    (0.2470, 0.2435, 0.2616),
)
CIFAR100 = cifar(
    "cifar100",
    official.CIFAR100,
    {
        "train": "735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b",
        "test": "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864",
        "meta": "a5d4786345c961390f865e93b434dbd5c6904ce880667e0cb888c97d449f28b9",
    },
    {"train": 160 * 10**6, "test": 32 * 10**6, "meta": 10**4},
    (0.5071, 0.4865, 0.4409),
    (0.2673, 0.2564, 0.2762),
)
SVHN = svhn(
    "svhn",
    official.SVHN,
    {
        "train": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        "test": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    },
    {"train": 182040794, "test": 64275384},
    (0.4377, 0.4438, 0.4728),
    (0.1980, 0.2010, 0.1970),
)
SPECS = {spec.name: spec for spec in (MNIST, FASHION_MNIST, KMNIST, CIFAR10, CIFAR100, SVHN)}
