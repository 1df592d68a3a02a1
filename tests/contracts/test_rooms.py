"""The rooms of docs/architecture.md; oracle: the import statements themselves, those inside functions too.

Aimed at: a room that imports from one above it, so that nothing can be read, tested or exchanged alone.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pcbench"
# In docs/architecture.md each line of the list begins with a room's modules, from the ground up.
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^    (\S(?:[\w/]|, )+?) {2,}", TEXT.partition("## The rooms")[2], re.MULTILINE)
ROOMS = {name.strip("/ "): floor for floor, line in enumerate(LISTED) for name in line.split(",")}
ENTRANCES = ("__init__", "__main__")  # of the package: they open the door to every room
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


def room(module):
    """The room of a module, named as ``rules/zil`` or ``rules``: its folder, or itself."""
    return module.split("/")[0]


def imports(module):
    """The modules of the package that a module imports."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: a relative import"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            parts = name.split(".")
            if parts[0] == "pcbench" and len(parts) > 1:
                yield node.lineno, parts[1]


def test_every_module_has_a_room_and_every_room_modules():
    rooms = {room(module) for module in MODULES} - set(ENTRANCES)
    assert rooms == set(ROOMS), "mend the list in docs/architecture.md"


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ENTRANCES])
def test_no_room_imports_from_one_above_it(module):
    upwards = [
        f"pcbench/{module}.py:{line} imports pcbench.{other}"
        for line, other in imports(module)
        if other in ROOMS and ROOMS[other] > ROOMS[room(module)]
    ]
    assert not upwards
