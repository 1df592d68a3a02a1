"""Counterparts of ``torch.nn``'s fused modules, written so that their parts are vertices of a graph."""

from pcbench.nn.convert import convert
from pcbench.nn.recurrent import GRU, LSTM, RNN, unroll

__all__ = ["GRU", "LSTM", "RNN", "convert", "unroll"]
