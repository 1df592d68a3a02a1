"""Which network and which data set a task is made of: a name for a pair of names.

No result depends on this file: the pair stands in the task's entries under ``profiles`` in params.yaml too, from which
the pipeline knows what code and data the task depends on; a test holds the two together.
"""

# The module in this folder that makes the network, and the data set.
TASKS = {
    "digits-mlp": ("mlp", "digits"),
    "digits-cnn": ("cnn", "digits"),
    "digits-rnn": ("row_rnn", "digits"),
    "digits-transformer": ("transformer", "digits"),
    "surnames-rnn": ("token_rnn", "surnames"),
    "surnames-lstm": ("gated_rnn", "surnames"),
    "surnames-gru": ("gated_rnn", "surnames"),
    "fashion-mlp": ("mlp", "fashion-mnist"),
    "fashion-cnn": ("cnn", "fashion-mnist"),
    "fashion-rnn": ("row_rnn", "fashion-mnist"),
    "mnist-cnn": ("cnn", "mnist"),
    "cifar10-cnn": ("alexnet", "cifar10"),
    "cifar10-resnet18": ("resnet18", "cifar10"),
    "agnews-rnn": ("token_rnn", "ag-news"),
    "imdb-lstm": ("gated_rnn", "imdb"),
    "sst2-gru": ("gated_rnn", "sst2"),
}
