"""Every loader gives the pixels and labels that stand in the official file format, from the archive on.

The files are small, made here, and byte-format exact; the failure aimed at is a loader that transposes, normalises or
labels quietly wrong. The other data tests take their small data sets from here.
"""

import gzip
import hashlib
import io
import struct
import tarfile

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets as official

from pcbench.data import _images, _store


def pixels(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def idx_bytes(array):
    """http://yann.lecun.com/exdb/mnist: magic number (unsigned bytes, rank), sizes big-endian, values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


IDX = {
    "train-images-idx3-ubyte": pixels(150, 28, 28),
    "train-labels-idx1-ubyte": pixels(150) % 10,
    "t10k-images-idx3-ubyte": pixels(20, 28, 28, seed=1),
    "t10k-labels-idx1-ubyte": pixels(20, seed=1) % 10,
}


def python2_string(content):
    return b"T" + struct.pack("<i", len(content)) + content


def python2_pickle(value):
    """What Python 2's cPickle wrote with protocol 2, as CIFAR's pages have it: byte strings, and NumPy 1's arrays."""

    def put(value):
        match value:
            case str():
                return python2_string(value.encode())
            case int():
                return b"K" + bytes([value])
            case list():
                return b"](" + b"".join(map(put, value)) + b"e"
            case dict():
                return b"}(" + b"".join(put(key) + put(item) for key, item in value.items()) + b"u"
            case np.ndarray():
                rows, columns = value.shape
                shape = b"J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86"
                return (
                    b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
                    + shape
                    + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
                    + python2_string(value.tobytes())
                    + b"tb"
                )

    return b"\x80\x02" + put(value) + b"."


def tar_gz(members):
    """A ``.tar.gz`` of ``{name: content}``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def md5(content):
    return hashlib.md5(content).hexdigest()


def small_mnist(address):
    """An MNIST of 150 and 20 images, published at ``address``: its `Spec`, and the official files by name."""
    content = {name: idx_bytes(array) for name, array in IDX.items()}
    dataset = type("MNIST", (official.MNIST,), {"mirrors": [address]})
    spec = _images.idx("mnist", dataset, [sha256(c) for c in content.values()], (0.25,), (0.5,))
    return spec, {f"{name}.gz": gzip.compress(c, mtime=0) for name, c in content.items()}


def small_kmnist(address):
    """As `small_mnist`, but nobody publishes the content's checksums."""
    _, files = small_mnist(address)
    dataset = type("KMNIST", (official.KMNIST,), {"mirrors": [address]})
    archives = [sha256(c) for c in files.values()]
    return _images.idx("kmnist", dataset, [""] * 4, (0.25,), (0.5,), archives_sha256=archives), files


CIFAR = {name: pixels(12, 3072, seed=i) for i, name in enumerate(["data_batch_1", "data_batch_2", "test_batch"])}


def cifar10_members():
    batches = {
        f"cifar-10-batches-py/{name}": python2_pickle(
            {"batch_label": name, "labels": [int(p[0]) % 10 for p in array], "data": array}
        )
        for name, array in CIFAR.items()
    }
    classes = official.FashionMNIST.classes  # any ten names
    meta = {"num_cases_per_batch": 12, "label_names": list(classes), "num_vis": 12}
    return {**batches, "cifar-10-batches-py/batches.meta": python2_pickle(meta)}


def small_cifar10(address, archive=None):
    """A CIFAR-10 of 24 and 12 images, published at ``address``; ``archive`` is served instead of an honest one."""
    members = cifar10_members()
    by_name = {name.split("/")[1]: content for name, content in members.items()}
    changes = {
        "url": f"{address}/{official.CIFAR10.filename}",
        "train_list": [[name, md5(by_name[name])] for name in CIFAR if name.startswith("data")],
        "test_list": [["test_batch", md5(by_name["test_batch"])]],
        "meta": {**official.CIFAR10.meta, "md5": md5(by_name["batches.meta"])},
    }
    sums = {name: sha256(content) for name, content in by_name.items()}
    sizes = {name: len(content) for name, content in by_name.items()}
    dataset = type("CIFAR10", (official.CIFAR10,), changes)
    spec = _images.cifar("cifar10", dataset, sums, sizes, (0.25, 0.5, 0.75), (0.5, 0.25, 1.0))
    return spec, {official.CIFAR10.filename: archive or tar_gz(members)}


def small_cifar100(address):
    train, test = pixels(30, 3072), pixels(9, 3072, seed=1)
    by_name = {
        "train": python2_pickle({"fine_labels": list(range(30)), "coarse_labels": [0] * 30, "data": train}),
        "test": python2_pickle({"fine_labels": list(range(9)), "coarse_labels": [0] * 9, "data": test}),
        "meta": python2_pickle({"fine_label_names": [f"class {i}" for i in range(100)]}),
    }
    changes = {
        "url": f"{address}/{official.CIFAR100.filename}",
        "train_list": [["train", md5(by_name["train"])]],
        "test_list": [["test", md5(by_name["test"])]],
        "meta": {**official.CIFAR100.meta, "md5": md5(by_name["meta"])},
    }
    sums = {name: sha256(content) for name, content in by_name.items()}
    sizes = {name: len(content) for name, content in by_name.items()}
    dataset = type("CIFAR100", (official.CIFAR100,), changes)
    spec = _images.cifar("cifar100", dataset, sums, sizes, (0.25, 0.5, 0.75), (0.5, 0.25, 1.0))
    return spec, {official.CIFAR100.filename: tar_gz({f"cifar-100-python/{n}": c for n, c in by_name.items()})}


SVHN = {"train": pixels(15, 3, 32, 32), "test": pixels(7, 3, 32, 32, seed=1)}


def small_svhn(address):
    """MATLAB 5 files: ``X`` is (32, 32, 3, images), ``y`` is (images, 1) from 1 to 10, where 10 is the digit 0."""
    files, sums, sizes, splits = {}, {}, {}, {}
    for split, array in SVHN.items():
        buffer = io.BytesIO()
        labels = np.arange(1, len(array) + 1, dtype=np.uint8).reshape(-1, 1) % 10
        labels[labels == 0] = 10
        scipy.io.savemat(buffer, {"X": array.transpose(2, 3, 1, 0), "y": labels}, do_compression=True)
        content, name = buffer.getvalue(), f"{split}_32x32.mat"
        files[name], sums[split], sizes[split] = content, sha256(content), len(content)
        splits[split] = [f"{address}/{name}", name, md5(content)]
    dataset = type("SVHN", (official.SVHN,), {"split_list": splits})
    return _images.svhn("svhn", dataset, sums, sizes, (0.25, 0.5, 0.75), (0.5, 0.25, 1.0)), files


SMALL = {
    "mnist": small_mnist,
    "kmnist": small_kmnist,
    "cifar10": small_cifar10,
    "cifar100": small_cifar100,
    "svhn": small_svhn,
}


def place(files, folder):
    """Put official files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Fetch a small data set from a mirror folder, and load it."""

    def load(make):
        spec, files = make("http://localhost:9")
        monkeypatch.setenv("PCBENCH_MIRROR", str(place(files, tmp_path / "mirror")))
        folder = _store.fetch(spec, tmp_path / "datasets")
        assert _store.problem(spec, folder) is None
        return spec.read(folder)

    return load


MEAN = torch.tensor([0.25, 0.5, 0.75]).reshape(3, 1, 1)
DEVIATION = torch.tensor([0.5, 0.25, 1.0]).reshape(3, 1, 1)


def normalised(array):
    return (torch.from_numpy(array.copy()).reshape(-1, 3, 32, 32) / 255 - MEAN) / DEVIATION


@pytest.mark.parametrize("make", [small_mnist, small_kmnist])
def test_idx_images_are_one_channel_in_file_order(make, load):
    data = load(make)
    for split, part in ((data.train, "train"), (data.test, "t10k")):
        expected = (torch.from_numpy(IDX[f"{part}-images-idx3-ubyte"]) / 255 - 0.25) / 0.5
        torch.testing.assert_close(split.inputs, expected.unsqueeze(1))
        assert split.targets.tolist() == IDX[f"{part}-labels-idx1-ubyte"].tolist()


def test_cifar10_pixels_are_red_rows_then_green_then_blue(load):
    data = load(small_cifar10)
    torch.testing.assert_close(
        data.train.inputs, normalised(np.concatenate([CIFAR["data_batch_1"], CIFAR["data_batch_2"]]))
    )
    torch.testing.assert_close(data.test.inputs, normalised(CIFAR["test_batch"]))
    assert data.test.targets.tolist() == [int(p[0]) % 10 for p in CIFAR["test_batch"]]
    assert data.classes == tuple(official.FashionMNIST.classes)


def test_cifar100_targets_are_the_fine_labels(load):
    data = load(small_cifar100)
    torch.testing.assert_close(data.train.inputs, normalised(pixels(30, 3072)))
    assert data.train.targets.tolist() == list(range(30))
    assert data.classes == tuple(f"class {i}" for i in range(100))


def test_svhn_label_10_is_the_digit_0(load):
    data = load(small_svhn)
    torch.testing.assert_close(data.train.inputs, normalised(SVHN["train"]))
    assert data.train.targets.tolist() == [i % 10 for i in range(1, 16)]


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
def test_tensors_are_contiguous_float32_and_int64(make, load):
    data = load(make)
    for split in (data.train, data.test):
        assert split.inputs.dtype == torch.float32 and split.inputs.is_contiguous()
        assert split.targets.dtype == torch.int64
        assert len(split.inputs) == len(split.targets)
