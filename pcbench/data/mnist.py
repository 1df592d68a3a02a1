"""MNIST.

Handwritten digits, 28 × 28 pixels, grey, 10 classes.

| | |
| --- | --- |
| Source | <http://yann.lecun.com/exdb/mnist/>, and its mirrors by PyTorch and Google (CVDF) |
| Licence | copyright Y. LeCun and C. Cortes; Keras' documentation gives CC BY-SA 3.0 |
| Splits | 60,000 training and 10,000 test examples, the official ones |
| Size | 12 MB to download, 55 MB in `data/` |
| Inputs | pixels in [0, 1], less 0.1307, by 0.3081 |

## Checksums

SHA-256 of the decompressed content. The publisher gives none; these stand, the same, in several unrelated public
projects.

## Citation

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-based learning applied to document recognition*. Proceedings of the
IEEE 86(11), 1998.
"""

from torchvision.datasets import MNIST

from pcbench.data._images import idx

SPEC = idx(
    "mnist",
    MNIST,
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
