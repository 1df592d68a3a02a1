"""What the stages' results must look like: the forms of their files; docs/architecture.md explains each field."""

from typing import Any, Literal

from pcbench.forms import Form, NotEmpty, Open

_Distance = float | None  # None: not a finite number


class _Quartiles(Open):
    median: float
    q1: float
    q3: float


class _Interval(Open):
    median: float
    low: float | None
    high: float | None


class _Ratio(_Quartiles, _Interval):
    pass


class _Divergence(Open):
    l2: _Distance
    relative_l2: _Distance
    max_abs: _Distance
    max_ulp: _Distance
    bitwise_equal: bool


class _Counted(Open):
    seconds: _Quartiles
    ratio: _Ratio
    operations: int
    flops: int


class _Cost(_Counted):
    peak_bytes: int
    peak_ratio: float
    capture_seconds: float | None = None
    captured_ratio: _Interval | None = None


class _Epoch(Open):
    train_loss: float
    test_accuracy: float


class _Trajectory(Open):
    l2: list[_Distance]
    relative_l2: list[_Distance]
    max_ulp: list[_Distance]


class _Training(Open):
    test_accuracy: float
    majority_accuracy: float
    epochs: NotEmpty[_Epoch]
    updates: int
    weights_sha256: str
    divergence: _Trajectory | None


class _Proven(Open):
    equal: Literal[True]
    operations: int
    own_operations: int
    digest: str


class _Parted(Open):
    equal: Literal[False]
    operations: int
    own_operations: int
    digest: str
    result: str
    step: str | None
    expected: str | None
    line: str | None
    explanation: str


class _Refused(Form):
    refused: str


_Certificate = _Refused | _Proven | _Parted


class _Fitted(_Divergence):
    scale: _Distance
    residual: _Distance
    scaled_bitwise: bool
    tensor_residual: _Distance
    scales: dict[str, _Distance]
    scaled_tensors: int
    proof: _Certificate | None = None


class _Model(_Divergence):
    parameters: int
    elements: int
    side: int
    buffers_equal: bool
    bp_repeats_itself: bool
    proof: _Certificate


class _Point(Open):
    gamma: float
    sigma: float
    layer_dependent: bool
    relative_l2: _Distance


class _Compared(Open):
    cosine: float | None
    relative_l2: _Distance


class _Settled(_Compared):
    energy: float | None
    residual: float | None
    evaluations: int


class _Passed(Open):
    cosine: list[float | None]
    relative_l2: list[_Distance]


class _FreeEnergy(Open):
    energy: NotEmpty[float | None]
    at_one_time: _Passed
    settled: _Settled


class _Conditions(Open):
    grid: NotEmpty[_Point]
    free_energy: dict[str, _FreeEnergy]


class _Record(Open):
    rule: str
    label: str


class _NotCaptured(_Record):
    refused: str
    metrics: None


class _Seeded(_Record):
    dtype: str
    seed: int


class _ExactnessRecord(_Seeded):
    metrics: _Divergence


class _ZooRecord(_Seeded):
    metrics: _Model


class _CostRecord(_Record):
    metrics: _Cost


class _TrainRecord(_Record):
    metrics: _Training


class _ProofRecord(_Record):
    metrics: _Certificate


class _ConformanceRecord(_Seeded):
    options: dict[str, Any]
    metrics: _Fitted


class _Ours(Open):
    options: dict[str, Any]
    relative_l2: _Distance


class _PeerRecord(_ConformanceRecord):
    like: str
    summed: bool
    ours: _Ours | None


class _ConditionsRecord(_Seeded):
    metrics: _Conditions


class _ScalingRecord(_Record):
    size: int
    metrics: _Counted


class _File(Open):
    task: str
    family: str


class _Exactness(_File):
    identities: int
    results: NotEmpty[_ExactnessRecord]


class _CostFile(_File):
    results: NotEmpty[_NotCaptured | _CostRecord]


class _Train(_File):
    seed: int
    results: NotEmpty[_TrainRecord]


class _Proof(_File):
    results: NotEmpty[_ProofRecord]


class _Conformance(_File):
    levels: int
    results: NotEmpty[_ConformanceRecord]


class _Library(Open):
    name: str
    title: str
    version: str


class _Peer(_File):
    levels: int
    library: _Library
    results: NotEmpty[_PeerRecord]


class _ConditionsFile(_File):
    rounding: float
    results: NotEmpty[_ConditionsRecord]


class _Zoo(_File):
    results: NotEmpty[_ZooRecord]


class _Scaling(_File):
    results: NotEmpty[_ScalingRecord]


FORMS: dict[str, Any] = {
    **{"exactness": _Exactness, "cost": _CostFile, "train": _Train},
    **{"proof": _Proof, "conformance": _Conformance, "conditions": _ConditionsFile, "zoo": _Zoo, "scaling": _Scaling},
    "peers": _Peer,
}
