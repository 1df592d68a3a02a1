"""CIFAR-10.

Photographs, 32 × 32 pixels, in colour, 10 classes.

| | |
| --- | --- |
| Source | <https://www.cs.toronto.edu/~kriz/cifar.html>, the Python version |
| Licence | none is stated; the images are from the web (80 Million Tiny Images) |
| Splits | 50,000 training and 10,000 test examples, the official ones |
| Size | 170 MB to download, 186 MB in `data/` |
| Inputs | pixels in [0, 1], less (0.4914, 0.4822, 0.4465), by (0.2470, 0.2435, 0.2616) |

## Checksums

SHA-256 of the content of the archive, found in several unrelated public projects, beside the MD5s that torchvision has and
verifies too. These files are Python pickles: they are loaded only after they have verified.

## Citation

A. Krizhevsky. *Learning Multiple Layers of Features from Tiny Images*. Technical report, University of Toronto, 2009.
"""

from torchvision.datasets import CIFAR10

from pcbench.data._images import cifar

SPEC = cifar(
    "cifar10",
    CIFAR10,
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
