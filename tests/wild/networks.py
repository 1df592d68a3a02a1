"""The list of all networks, in the order of their kinds."""

from wild.control import CONTROL
from wild.gradients import GRADIENTS
from wild.layers import LAYERS
from wild.objects import OBJECTS
from wild.operations import OPERATIONS
from wild.outside import OUTSIDE
from wild.parameters import PARAMETERS
from wild.randomness import RANDOMNESS
from wild.state import STATE
from wild.writes import WRITES

WILD = WRITES + RANDOMNESS + STATE + CONTROL + GRADIENTS + OUTSIDE + OBJECTS + PARAMETERS + OPERATIONS + LAYERS
