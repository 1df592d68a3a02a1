"""The counterparts of torch's recurrent modules; oracle: torch's own, on the same weights and inputs.

Aimed at: gates in another order, a backward direction whose output is not turned round again, a final state taken
from the padding, NaN in the padding that reaches a gradient, dropout in the wrong place, a conversion that forgets
a setting.
"""

import copy
import itertools
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import pcbench
import pcbench.nn as local
from pcbench.errors import InvalidParameters, UnsupportedModule
from pcbench.graph import Graph

KINDS = {
    "rnn-tanh": (nn.RNN, {}),
    "rnn-relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "lstm-projected": (nn.LSTM, {"proj_size": 2}),
    "gru": (nn.GRU, {}),
}
COUNTERPART = {nn.RNN: local.RNN, nn.LSTM: local.LSTM, nn.GRU: local.GRU}
TIME, BATCH, INPUT, HIDDEN = 4, 3, 5, 4

kinds = pytest.mark.parametrize("kind", KINDS)
layers = pytest.mark.parametrize("num_layers", [1, 2])
directions = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
layouts = pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])


def pair(kind, input_size=INPUT, hidden_size=HIDDEN, **options):
    """Torch's own module and its counterpart, with the same weights, in float64."""
    torch.manual_seed(0)
    fused_class, more = KINDS[kind]
    options = {"dtype": torch.float64, **more, **options}
    fused = fused_class(input_size, hidden_size, **options)
    counterpart = COUNTERPART[fused_class](input_size, hidden_size, **options)
    counterpart.load_state_dict(fused.state_dict())
    return fused, counterpart


def initial_state(module, batch):
    """Random, in the form that ``module`` takes."""
    count = module.num_layers * (2 if module.bidirectional else 1)
    sizes = [module.proj_size or module.hidden_size]
    if isinstance(module, nn.LSTM):
        sizes.append(module.hidden_size)
    parts = tuple(torch.randn(count, *batch, size, dtype=torch.float64) for size in sizes)
    return parts if len(parts) == 2 else parts[0]


def flat(result):
    output, state = result
    return [output, *state] if isinstance(state, tuple) else [output, state]


def results_and_gradients(run, module, input, hx):
    """Everything that ``run(module, input, hx)`` returns, then its product with fixed cotangents differentiated."""
    input = input.clone().requires_grad_()
    parts = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
    parts = tuple(part.clone().requires_grad_() for part in parts)
    hx = None if hx is None else parts if isinstance(hx, tuple) else parts[0]
    results = flat(run(module, input, hx))
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(r.shape, generator=generator, dtype=r.dtype) for r in results]
    gradients = torch.autograd.grad(results, [input, *parts, *module.parameters()], cotangents)
    return [*results, *gradients]


def assert_equal_to_rounding(actual, expected):
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-12, atol=1e-12)


def packed(module, lengths, total_length):
    """Torch's own way with sequences of several lengths, on padded tensors."""

    def run(module, input, hx):
        first = module.batch_first
        sequence = pack_padded_sequence(input, lengths, batch_first=first, enforce_sorted=False)
        output, state = module(sequence, hx)
        return pad_packed_sequence(output, batch_first=first, total_length=total_length)[0], state

    return run


@kinds
@layers
@directions
@layouts
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("batched", [True, False], ids=["batch", "single"])
@pytest.mark.parametrize("given_state", [True, False], ids=["state", "zero-state"])
def test_results_and_gradients_are_those_of_torchs_own(
    kind, num_layers, bidirectional, batch_first, bias, batched, given_state
):
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "batch_first": batch_first, "bias": bias}
    fused, counterpart = pair(kind, **options)
    shape = (TIME, INPUT) if not batched else (BATCH, TIME, INPUT) if batch_first else (TIME, BATCH, INPUT)
    input = torch.randn(shape, dtype=torch.float64)
    hx = initial_state(fused, (BATCH,) if batched else ()) if given_state else None

    def run(module, input, hx):
        return module(input, hx)

    expected = results_and_gradients(run, fused, input, hx)
    assert_equal_to_rounding(results_and_gradients(run, counterpart, input, hx), expected)


@kinds
@layers
@directions
@layouts
def test_with_lengths_they_are_those_of_torchs_packed_sequences(kind, num_layers, bidirectional, batch_first):
    fused, counterpart = pair(kind, num_layers=num_layers, bidirectional=bidirectional, batch_first=batch_first)
    lengths = torch.tensor([2, TIME, 1])
    input = torch.randn((BATCH, TIME, INPUT) if batch_first else (TIME, BATCH, INPUT), dtype=torch.float64)
    hx = initial_state(fused, (BATCH,))

    expected = results_and_gradients(packed(fused, lengths, TIME), fused, input, hx)
    actual = results_and_gradients(lambda m, x, h: m(x, h, lengths=lengths), counterpart, input, hx)
    assert_equal_to_rounding(actual, expected)


@kinds
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_sizes_and_lengths_are_free(kind, data):
    time, batch = data.draw(st.integers(1, 6), label="time"), data.draw(st.integers(1, 4), label="batch")
    input_size, hidden_size = data.draw(st.integers(1, 5), label="input"), data.draw(st.integers(3, 6), label="hidden")
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, time), min_size=batch, max_size=batch), label="lengths"))
    fused, counterpart = pair(kind, input_size, hidden_size, num_layers=2, bidirectional=True)
    input = torch.randn(time, batch, input_size, dtype=torch.float64)

    expected = results_and_gradients(packed(fused, lengths, time), fused, input, None)
    actual = results_and_gradients(lambda m, x, h: m(x, h, lengths=lengths), counterpart, input, None)
    assert_equal_to_rounding(actual, expected)


@kinds
def test_what_stands_in_the_padding_reaches_neither_results_nor_gradients(kind):
    _, counterpart = pair(kind, num_layers=2, bidirectional=True)
    lengths = torch.tensor([2, TIME, 1])
    clean = torch.randn(TIME, BATCH, INPUT, dtype=torch.float64)
    padding = torch.arange(TIME)[:, None] >= lengths
    dirty = clean.masked_fill(padding[..., None], float("nan"))

    def run(module, input, hx):
        return module(input, hx, lengths=lengths)

    expected = results_and_gradients(run, counterpart, clean, None)
    for a, e in zip(results_and_gradients(run, counterpart, dirty, None), expected, strict=True):
        assert torch.equal(a, e)


@kinds
@directions
def test_dropout_draws_what_torchs_own_draws(kind, bidirectional):
    fused, counterpart = pair(kind, num_layers=3, bidirectional=bidirectional, dropout=0.4)
    input = torch.randn(TIME, BATCH, INPUT, dtype=torch.float64)

    def seeded(module):
        torch.manual_seed(3)
        return flat(module(input))

    assert_equal_to_rounding(seeded(counterpart), seeded(fused))
    in_training = seeded(counterpart)[0]
    assert_equal_to_rounding(seeded(counterpart.eval()), seeded(fused.eval()))
    assert not torch.allclose(seeded(counterpart)[0], in_training)


@kinds
def test_dropout_with_lengths_stands_between_layers_only(kind):
    """With probability 1 there is nothing random about it, so that torch's other order of drawing does not matter."""
    fused, counterpart = pair(kind, num_layers=2, bidirectional=True, dropout=1.0)
    lengths = torch.tensor([2, TIME, 1])
    input = torch.randn(TIME, BATCH, INPUT, dtype=torch.float64)

    expected = flat(packed(fused, lengths, TIME)(fused, input, None))
    assert_equal_to_rounding(flat(counterpart(input, lengths=lengths)), expected)


@kinds
@directions
def test_weights_are_drawn_and_named_as_in_torchs_own(kind, bidirectional):
    fused_class, options = KINDS[kind]
    built = []
    for cls in (fused_class, COUNTERPART[fused_class]):
        torch.manual_seed(7)
        built.append(cls(INPUT, HIDDEN, num_layers=2, bidirectional=bidirectional, **options))
    expected, actual = (module.state_dict() for module in built)
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    built[0].load_state_dict(actual)
    assert repr(built[1]) == repr(built[0])


@kinds
def test_torchs_own_module_can_be_unrolled_as_it_is(kind):
    fused, _ = pair(kind, num_layers=2, bidirectional=True)
    input = torch.randn(TIME, BATCH, INPUT, dtype=torch.float64)
    assert_equal_to_rounding(flat(local.unroll(fused, input)), flat(fused(input)))


class Classifier(nn.Module):
    """Embedding, recurrent network, linear readout at every time step or at the last."""

    def __init__(self, recurrent, *, many_to_many):
        super().__init__()
        self.embedding = nn.Embedding(7, INPUT)
        self.recurrent = recurrent
        self.readout = nn.Linear(HIDDEN * (2 if recurrent.bidirectional else 1), 3)
        self.many_to_many = many_to_many

    def forward(self, tokens, lengths=None):
        output, _ = self.recurrent(self.embedding(tokens), lengths=lengths)
        return self.readout(output if self.many_to_many else output.sum(0))


@pytest.mark.parametrize("cls", COUNTERPART.values())
@layers
@directions
def test_each_time_step_of_each_layer_and_direction_is_one_vertex(cls, num_layers, bidirectional):
    model = Classifier(cls(INPUT, HIDDEN, num_layers, bidirectional=bidirectional), many_to_many=False)
    graph = Graph.from_module(model, torch.zeros(TIME, BATCH, dtype=torch.long))
    cells = [v for v in graph.vertices if any(name.startswith("recurrent.") for name in v.parameters)]
    for names in model.recurrent._all_weights:
        own = [v for v in cells if set(v.parameters) == {f"recurrent.{name}" for name in names}]
        assert len(own) == TIME
        levels = [v.level for v in own]
        assert all(abs(a - b) == 1 for a, b in itertools.pairwise(levels))
    assert len(cells) == TIME * num_layers * (2 if bidirectional else 1)


@pytest.mark.parametrize("cls", COUNTERPART.values())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("many_to_many", [False, True], ids=["many-to-one", "many-to-many"])
@pytest.mark.parametrize("lengths", [None, [2, TIME, 1]], ids=["full", "lengths"])
def test_zil_gives_the_bits_of_backprop(cls, dtype, many_to_many, lengths):
    torch.manual_seed(0)
    recurrent = cls(INPUT, HIDDEN, num_layers=2, bidirectional=True, dropout=0.3)
    model = Classifier(recurrent, many_to_many=many_to_many).to(dtype)
    tokens = torch.randint(0, 7, (TIME, BATCH))
    inputs = tokens if lengths is None else (tokens, torch.tensor(lengths))
    targets = torch.randn(*([TIME] if many_to_many else []), BATCH, 3, dtype=dtype)
    assert pcbench.divergence(model, inputs, targets, nn.functional.mse_loss, rule="zil").bitwise_equal


class Tagger(nn.Module):
    """Two recurrent networks, one deep inside, one weight of which is tied to another module's."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleDict({"lstm": nn.LSTM(INPUT, HIDDEN, num_layers=2, batch_first=True, dropout=0.5)})
        self.decoder = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.readout = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.readout.weight = self.decoder.weight_hh_l0

    def forward(self, input):
        return self.readout(self.decoder(self.encoder["lstm"](input)[0])[0])


def test_conversion_keeps_the_function_and_every_setting():
    model = Tagger().double().train()
    model.decoder.eval()
    model.decoder.bias_hh_l0.requires_grad_(False)
    converted = local.convert(model)

    assert type(converted.encoder["lstm"]) is local.LSTM
    assert type(converted.decoder) is local.GRU
    assert [m.training for m in converted.modules()] == [m.training for m in model.modules()]
    assert converted.readout.weight is converted.decoder.weight_hh_l0
    for (name, new), (old_name, old) in zip(converted.named_parameters(), model.named_parameters(), strict=True):
        assert (name, new.dtype, new.device, new.requires_grad) == (old_name, old.dtype, old.device, old.requires_grad)
        assert torch.equal(new, old)
    input = torch.randn(BATCH, TIME, INPUT, dtype=torch.float64)
    torch.manual_seed(0)
    expected = model(input)
    torch.manual_seed(0)
    assert_equal_to_rounding([converted(input)], [expected])


def test_conversion_leaves_the_model_alone():
    model = Tagger()
    before = copy.deepcopy(model.state_dict())
    converted = local.convert(model)
    with torch.no_grad():
        for parameter in converted.parameters():
            parameter.zero_()
    assert type(model.encoder["lstm"]) is nn.LSTM
    assert type(model.decoder) is nn.GRU
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@kinds
def test_a_model_that_is_a_recurrent_network_itself_is_converted(kind):
    fused, counterpart = pair(kind)
    input = torch.randn(TIME, BATCH, INPUT, dtype=torch.float64)
    converted = local.convert(fused)
    assert type(converted) is type(counterpart)
    assert_equal_to_rounding(flat(converted(input)), flat(fused(input)))


def test_conversion_repeats_no_warning_of_the_constructor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = nn.LSTM(INPUT, HIDDEN, dropout=0.5)  # torch warns: one layer has nothing to drop between
    local.convert(fused)


def test_conversion_refuses_a_subclass_by_its_path():
    class Peephole(nn.LSTM):
        pass

    with pytest.raises(UnsupportedModule, match=r"'0' \(Peephole\) is a subclass of nn.LSTM.*pcbench.nn.LSTM"):
        local.convert(nn.Sequential(Peephole(INPUT, HIDDEN)))


def test_conversion_refuses_a_parametrized_module():
    model = nn.Sequential(parametrizations.weight_norm(nn.GRU(INPUT, HIDDEN), "weight_hh_l0"))
    with pytest.raises(UnsupportedModule, match=r"'0' \(ParametrizedGRU\).*remove its parametrizations"):
        local.convert(model)


def on_packed(lengths, enforce_sorted):
    """Run a module on a PackedSequence; the output is one too."""

    def run(module, input, hx):
        sequence = pack_padded_sequence(input, lengths, module.batch_first, enforce_sorted)
        output, state = module(sequence, hx)
        assert isinstance(output, PackedSequence) and torch.equal(output.batch_sizes, sequence.batch_sizes)
        for name in ("sorted_indices", "unsorted_indices"):
            expected, actual = getattr(sequence, name), getattr(output, name)
            assert (actual is None) == (expected is None) and (actual is None or torch.equal(actual, expected))
        return output.data, state

    return run


@kinds
@layers
@directions
@layouts
@pytest.mark.parametrize("given_state", [True, False], ids=["state", "zero-state"])
@pytest.mark.parametrize(
    ("lengths", "enforce_sorted"),
    [([TIME, 3, 1], True), ([TIME, 2, 2], True), ([2, TIME, 1], False), ([3, 1, 3], False), ([1, 1, 1], False)],
    ids=["sorted", "ties", "unsorted", "shorter", "one step"],
)
def test_a_packed_sequence_gives_what_torchs_own_gives(
    kind, num_layers, bidirectional, batch_first, given_state, lengths, enforce_sorted
):
    fused, counterpart = pair(kind, num_layers=num_layers, bidirectional=bidirectional, batch_first=batch_first)
    input = torch.randn((BATCH, TIME, INPUT) if batch_first else (TIME, BATCH, INPUT), dtype=torch.float64)
    hx = initial_state(fused, (BATCH,)) if given_state else None
    run = on_packed(torch.tensor(lengths), enforce_sorted)
    expected = results_and_gradients(run, fused, input, hx)
    assert_equal_to_rounding(results_and_gradients(run, counterpart, input, hx), expected)


class Packs(nn.Module):
    """A recurrent network between two others, on the data of a PackedSequence."""

    def __init__(self, recurrent):
        super().__init__()
        self.embedding, self.recurrent, self.readout = nn.Linear(INPUT, INPUT), recurrent, nn.Linear(HIDDEN, 3)

    def forward(self, sequence):
        sequence = sequence._replace(data=torch.tanh(self.embedding(sequence.data)))
        output, _ = self.recurrent(sequence)
        return self.readout(pad_packed_sequence(output)[0].mean(0))


@pytest.mark.parametrize("cls", COUNTERPART.values())
@pytest.mark.parametrize("enforce_sorted", [True, False], ids=["sorted", "unsorted"])
def test_zil_gives_the_bits_of_backprop_on_packed_sequences(cls, enforce_sorted):
    torch.manual_seed(0)
    lengths = torch.tensor([TIME, 3, 1] if enforce_sorted else [1, TIME, 3])
    sequence = pack_padded_sequence(torch.randn(TIME, BATCH, INPUT), lengths, enforce_sorted=enforce_sorted)
    model, targets = Packs(cls(INPUT, HIDDEN, num_layers=2)), torch.randn(BATCH, 3)
    assert pcbench.divergence(model, sequence, targets, nn.functional.mse_loss).bitwise_equal


@pytest.mark.parametrize("lengths", [torch.tensor([TIME]), torch.tensor(TIME), torch.ones(TIME, BATCH).long()])
def test_lengths_of_another_shape_are_refused(lengths):
    with pytest.raises(InvalidParameters, match=r"lengths has shape .* is \(3,\)"):
        local.GRU(INPUT, HIDDEN)(torch.zeros(TIME, BATCH, INPUT), lengths=lengths)


def test_an_unknown_nonlinearity_is_refused():
    with pytest.raises(InvalidParameters, match="nonlinearity 'gelu' is none of tanh, relu"):
        local.RNN(INPUT, HIDDEN, nonlinearity="gelu")


@pytest.mark.parametrize(
    ("input", "hx"),
    [
        (torch.zeros(TIME, BATCH, INPUT + 1), None),
        (torch.zeros(1, TIME, BATCH, INPUT), None),
        (torch.zeros(TIME, BATCH, INPUT), torch.zeros(1, BATCH + 1, HIDDEN)),
        (torch.zeros(TIME, INPUT), torch.zeros(1, BATCH, HIDDEN)),
        (torch.zeros(TIME, BATCH, INPUT, dtype=torch.float64), None),
    ],
    ids=["input-size", "dimensions", "state-batch", "state-of-a-batch", "dtype"],
)
def test_what_does_not_fit_is_refused_as_by_torchs_own(input, hx):
    for cls in (nn.GRU, local.GRU):
        with pytest.raises((RuntimeError, ValueError)):
            cls(INPUT, HIDDEN)(input, hx)
