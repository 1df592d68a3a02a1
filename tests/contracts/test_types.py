"""Type annotations; oracle: the source itself, parsed: what a user may call says what it takes and what it returns.

Aimed at: a public function that a type checker passes over in silence, and a package whose types never reach its users.
"""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pcbench"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def public(name):
    return not name.startswith("_")


def functions(body, owner=None):
    """The public functions of a module or class, and of the public classes in it: ``(function, the class around it)``."""
    for node in body:
        if isinstance(node, FUNCTIONS):
            if public(node.name):
                yield node, owner
        elif isinstance(node, ast.ClassDef):
            if public(node.name):
                yield from functions(node.body, node)
        else:  # `if`, `try` and `with` hold statements of the same scope
            for inner in ("body", "orelse", "handlers", "finalbody"):
                yield from functions(getattr(node, inner, ()), owner)


def lacking(function, owner):
    """What of a signature has no annotation."""
    taken = function.args
    arguments = [*taken.posonlyargs, *taken.args]
    if owner is not None and not any(ast.unparse(each) == "staticmethod" for each in function.decorator_list):
        arguments = arguments[1:]  # self or cls
    arguments += [*taken.kwonlyargs, *filter(None, (taken.vararg, taken.kwarg))]
    names = [argument.arg for argument in arguments if argument.annotation is None]
    return [*names, *(["its return"] if function.returns is None else [])]


def unannotated(source, place):
    """One line for every public function that is not annotated whole."""
    found = []
    for function, owner in functions(ast.parse(source).body):
        if missing := lacking(function, owner):
            name = f"{owner.name}.{function.name}" if owner else function.name
            found.append(f"{place}:{function.lineno}: {name}: no type for {', '.join(missing)}")
    return found


@pytest.mark.parametrize("module", sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")))
def test_what_is_public_is_annotated_whole(module):
    found = unannotated((ROOT / module).read_text(encoding="utf-8"), module)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("def f(a: int, *b: int, c: int = 0, **d: int) -> None: ...", None),
        ("def f(a) -> None: ...", "f: no type for a"),
        ("def f(a, /, b, *c, d, **e): ...", "f: no type for a, b, d, c, e, its return"),
        ("async def f() : ...", "f: no type for its return"),
        ("def _f(a): ...", None),
        ("def f() -> None:\n def g(a): ...", None),
        (
            "class A:\n def f(self) -> None: ...\n @classmethod\n def g(cls) -> None: ...\n def __init__(self, a): ...",
            None,
        ),
        ("class A:\n @property\n def f(self): ...", "A.f: no type for its return"),
        ("class A:\n @staticmethod\n def f(a) -> None: ...", "A.f: no type for a"),
        ("class A:\n class B:\n  def f(self, a) -> None: ...", "B.f: no type for a"),
        ("class _A:\n def f(self, a): ...", None),
        ("try:\n pass\nexcept ImportError:\n def f(a) -> None: ...", "f: no type for a"),
    ],
)
def test_the_check_sees_every_kind_of_argument_and_nothing_private(source, missing):
    found = [line.split(": ", 1)[1] for line in unannotated(source, "a.py")]
    assert found == ([missing] if missing else [])


def test_the_types_are_shipped():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["pcbench"]
    assert (PACKAGE / "py.typed").is_file()
