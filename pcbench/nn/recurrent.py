"""Recurrent networks whose cells are local: one vertex for each time step of each layer and direction.

``torch.nn``'s own RNN, LSTM and GRU run all time steps in one kernel, inside which no vertex can be told from another.
These have the same constructors, parameters (names included) and results, and run one cell at a time:

    h_t = cell(x_t, h_{t−1}; θ)        with θ shared by all t; the LSTM's state is the pair (h_t, c_t).

Index conventions: T time steps, B sequences in the batch, I = ``input_size``, H = ``hidden_size``, L = ``num_layers``,
D directions (1 or 2), O = ``proj_size`` if that is positive (LSTM only), otherwise H.
"""

import functools
from collections.abc import Sequence
from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.overrides import handle_torch_function, has_torch_function

from pcbench.errors import InvalidParameters

State = Tensor | tuple[Tensor, Tensor]  # h, of an LSTM (h, c)


def _one_operation(cell):
    """Make ``cell`` one operation for whoever looks on (`torch.overrides`), and so one vertex."""

    @functools.wraps(cell)
    def wrapped(*args):
        if has_torch_function((args[0],)):
            return handle_torch_function(wrapped, (args[0],), *args)
        return cell(*args)

    return wrapped


@_one_operation
def rnn_cell(x: Tensor, h: Tensor, weights: Sequence[Tensor], active: Tensor | None, nonlinearity: str) -> Tensor:
    """One time step of an Elman network: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of the same.

    Args:
        x, h: (B, I) and (B, H).
        weights: W_ih (H, I), W_hh (H, H), and unless the layer has no bias b_ih (H), b_hh (H).
        active: (B, 1), false for sequences that are not running at this time step: they keep h; None if all are.
        nonlinearity: ``"tanh"`` or ``"relu"``.

    Returns:
        h', (B, H).
    """
    cell = torch.rnn_tanh_cell if nonlinearity == "tanh" else torch.rnn_relu_cell
    return _where(active, cell(x, h, *weights), h)


@_one_operation
def gru_cell(x: Tensor, h: Tensor, weights: Sequence[Tensor], active: Tensor | None) -> Tensor:
    """One time step of a GRU, as `torch.nn.GRU` defines it.

    Args:
        x, h, active: see `rnn_cell`.
        weights: as in `rnn_cell`, with 3H rows: the gates r, z, n.

    Returns:
        h', (B, H).
    """
    return _where(active, torch.gru_cell(x, h, *weights), h)


@_one_operation
def lstm_cell(
    x: Tensor, state: tuple[Tensor, Tensor], weights: Sequence[Tensor], active: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One time step of an LSTM, as `torch.nn.LSTM` defines it.

    Args:
        x: (B, I).
        state: h (B, O) and c (B, H).
        weights: W_ih (4H, I), W_hh (4H, O), then b_ih (4H), b_hh (4H) if there are biases, then W_hr (O, H) if the
            layer projects; the four blocks of rows are the gates i, f, g, o.
        active: see `rnn_cell`.

    Returns:
        h' (B, O) and c' (B, H).
    """
    h, c = state
    w_ih, w_hh, *rest = weights
    b_ih, b_hh = rest[:2] if len(rest) > 1 else (None, None)
    # Not torch.lstm_cell, which has no projection.
    i, f, g, o = (F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh)).chunk(4, dim=1)
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    new_h = o.sigmoid() * new_c.tanh()
    if len(rest) % 2:
        new_h = F.linear(new_h, rest[-1])
    return _where(active, new_h, h), _where(active, new_c, c)


def _where(active, new, old):
    return new if active is None else torch.where(active, new, old)


class _Recurrent(nn.RNNBase):
    """Constructor, parameters and checks are torch's own; ``forward`` is `unroll`."""

    def forward(
        self, input: Tensor | PackedSequence, hx: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run over a batch of sequences: see `unroll`."""
        return unroll(self, input, hx, lengths)


class RNN(_Recurrent):
    """Counterpart of `torch.nn.RNN`: same arguments, same ``state_dict``, same results; see `unroll`.

    Raises:
        InvalidParameters: unknown ``nonlinearity``; for the other arguments see `torch.nn.RNN`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise InvalidParameters(f"nonlinearity {nonlinearity!r} is none of tanh, relu")
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )
        self.nonlinearity = nonlinearity


class LSTM(_Recurrent):
    """Counterpart of `torch.nn.LSTM`: same arguments, same ``state_dict``, same results; see `unroll`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )


class GRU(_Recurrent):
    """Counterpart of `torch.nn.GRU`: same arguments, same ``state_dict``, same results; see `unroll`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )


@overload
def unroll(
    module: nn.RNNBase, input: Tensor, hx: State | None = None, lengths: Tensor | None = None
) -> tuple[Tensor, State]: ...


@overload
def unroll(
    module: nn.RNNBase, input: PackedSequence, hx: State | None = None, lengths: Tensor | None = None
) -> tuple[PackedSequence, State]: ...


def unroll(
    module: nn.RNNBase, input: Tensor | PackedSequence, hx: State | None = None, lengths: Tensor | None = None
) -> tuple[Tensor | PackedSequence, State]:
    """Run a recurrent module (one of these, or torch's own) cell by cell: layer by layer, one time step after another.

    Args:
        module: one of `RNN`, `LSTM`, `GRU`, of this module or of torch's.
        input: (T, B, I); with ``batch_first`` (B, T, I); for a single sequence (T, I). Or a `PackedSequence`: then the
            output is one too.
        hx: the initial state, (L·D, B, H), for an LSTM the pair of (L·D, B, O) and (L·D, B, H); without B for a single
            sequence. Zeros if None.
        lengths: (B,) integers from 1 to T, in any order: sequence b has ``lengths[b]`` time steps, and what follows
            them in ``input`` is not looked at (it may be NaN). None if all have T.

    Returns:
        ``(output, h_n)``, for an LSTM ``(output, (h_n, c_n))``: output is (T, B, D·O) or as ``input`` is arranged,
        zero where a sequence has ended; h_n and c_n have the shapes of ``hx`` and hold each sequence's state after its
        last time step (backward direction: after its first). With ``lengths`` these are the results that torch's own
        gives on `torch.nn.utils.rnn.pack_padded_sequence`, padded again.

    Raises:
        InvalidParameters: ``lengths`` has another shape.
        RuntimeError, ValueError: torch's own, for an input or initial state whose shape or dtype does not fit.
    """
    if isinstance(input, PackedSequence):
        padded, lengths = pad_packed_sequence(input, batch_first=module.batch_first)
        output, state = unroll(module, padded, hx, lengths)
        in_order = input.sorted_indices is None
        return pack_padded_sequence(output, lengths, module.batch_first, enforce_sorted=in_order), state
    is_lstm = module.mode == "LSTM"
    batch_dimension = 0 if module.batch_first else 1
    parts: Any = () if hx is None else tuple(hx) if is_lstm else (hx,)
    batched = input.dim() != 2
    if not batched:
        input = input.unsqueeze(batch_dimension)
        parts = tuple(part.unsqueeze(1) for part in parts)
    parts = _initial_state(module, input, parts)
    if module.batch_first:
        input = input.transpose(0, 1)
    mask = None if lengths is None else _mask(lengths, input)

    states = list(zip(*parts, strict=True)) if is_lstm else list(parts[0])
    output, states = _layers(module, input, states, mask)

    parts = zip(*states, strict=True) if is_lstm else (states,)
    parts = tuple(torch.stack(part) for part in parts)
    if module.batch_first:
        output = output.transpose(0, 1)
    if not batched:
        output = output.squeeze(batch_dimension)
        parts = tuple(part.squeeze(1) for part in parts)
    return output, parts if is_lstm else parts[0]


def _initial_state(module, input, parts):
    """Check the input and the parts of the initial state (h; for an LSTM h and c); without parts, they are zero."""
    module.check_input(input, None)
    sizes = [module.proj_size or module.hidden_size]
    if module.mode == "LSTM":
        sizes.append(module.hidden_size)
    batch = input.shape[0 if module.batch_first else 1]
    shapes = [(module.num_layers * _directions(module), batch, size) for size in sizes]
    if not parts:
        return tuple(torch.zeros(shape, dtype=input.dtype, device=input.device) for shape in shapes)
    for part, shape in zip(parts, shapes, strict=True):
        module.check_hidden_size(part, shape, "Expected initial state of shape {}, got {}")
    return parts


def _mask(lengths, input):
    """(T, B, 1), true where a sequence of ``input`` (T, B, I) is running."""
    time, batch = input.shape[:2]
    if lengths.shape != (batch,):
        raise InvalidParameters(f"lengths has shape {tuple(lengths.shape)}; one for each sequence is ({batch},)")
    steps = torch.arange(time, device=input.device)
    return (lengths.to(input.device) > steps[:, None]).unsqueeze(-1)


def _layers(module, input, states, mask):
    """Run all layers and directions on ``input`` (T, B, I).

    Args:
        states: the initial state of each layer's directions, L·D of them.
        mask: see `_mask`; None if all sequences are running at all time steps.

    Returns:
        The last layer's output (T, B, D·O), and the final states in the order of ``states``.
    """
    # Padding is zeroed, not only masked later: a NaN there would make a NaN of its zero gradient.
    steps = (input if mask is None else torch.where(mask, input, 0)).unbind(0)
    active = [None] * len(steps) if mask is None else mask.unbind(0)
    final, all_weights = [], module.all_weights
    for layer in range(module.num_layers):
        if layer > 0 and module.training and module.dropout > 0:
            # One draw for all time steps: torch's own random numbers in torch's own order.
            steps = F.dropout(torch.stack(steps), module.dropout).unbind(0)
        outputs = []
        for direction in range(_directions(module)):
            i = len(final)
            output, state = _layer(module, steps, states[i], all_weights[i], active, backward=direction == 1)
            outputs.append(output)
            final.append(state)
        steps = [torch.cat(both, dim=-1) for both in zip(*outputs, strict=True)] if len(outputs) == 2 else outputs[0]
    output = torch.stack(steps)
    return output if mask is None else torch.where(mask, output, 0), final


def _layer(module, steps, state, weights, active, *, backward):
    """Run one direction of one layer; return h (B, O) of every time step, and the state after the last that was run."""
    output = [None] * len(steps)
    for t in reversed(range(len(steps))) if backward else range(len(steps)):
        match module.mode:
            case "LSTM":
                state = lstm_cell(steps[t], state, weights, active[t])
                output[t] = state[0]
            case "GRU":
                output[t] = state = gru_cell(steps[t], state, weights, active[t])
            case _:
                output[t] = state = rnn_cell(steps[t], state, weights, active[t], module.nonlinearity)
    return output, state


def _directions(module):
    return 2 if module.bidirectional else 1
