"""PCBench: is predictive coding really backprop, bit for bit, and what does it cost?"""

from pcbench.errors import PCBenchError, UnsupportedModule
from pcbench.graph import Graph
from pcbench.measure.divergence import Divergence, divergence
from pcbench.rules import ZIL, Backprop, Captured, Dynamics, InferenceLearning, Schedule

__all__ = [
    "ZIL",
    "Backprop",
    "Captured",
    "Divergence",
    "Dynamics",
    "Graph",
    "InferenceLearning",
    "PCBenchError",
    "Schedule",
    "UnsupportedModule",
    "divergence",
]
