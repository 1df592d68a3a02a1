"""What code a result depends on: read off the imports, without importing anything.

The pipelines' stages depend on it (`pcbench.manifests`), every provenance holds its digest, and a checkpoint of other code is
not gone on from.
"""

import ast
import hashlib
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from pcbench.errors import InvalidParameters, PCBenchError

PACKAGE = Path(__file__).resolve().parent

# What no result depends on: names, the command line, messages, progress, the check of numbers, which are tracked themselves,
# and this. What these import does not count either; of the modules in `THIN`, what the functions in question use does.
_HARMLESS = (
    "__init__",
    "__main__",
    "brief",
    "cli",
    "code",
    "errors",
    "forms",
    "judging",
    "options",
    "params",
    "printing",
    "terminal",
)
HARMLESS = {f"pcbench/{name}.py" for name in _HARMLESS}
_CHECKS = {("pcbench.params", "load")}
THIN = ("pcbench.cli", "pcbench.params", "pcbench.stages")
# What is found by its name, one file each: the folder, and what stands in a name for an underscore.
_FOUND = {"network": ("tasks", "_"), "data set": ("data", "-"), "rule": ("rules", "-")}


def names(kind: str, package: Path = PACKAGE) -> tuple[str, ...]:
    """The names of all that there is of a kind, which are those of the files in its folder.

    Args:
        kind: ``"network"``, ``"data set"`` or ``"rule"``.
        package: the folder of the package.
    """
    folder, sign = _FOUND[kind]
    return tuple(sorted(path.stem.replace("_", sign) for path in (package / folder).glob("[!_]*.py")))


def module_name(kind: str, name: str) -> str:
    """The full name of the module of what is found by its name: a stage depends on that one, and on no other of its kind.

    Raises:
        InvalidParameters: there is none of that name.
    """
    known = names(kind)
    if name not in known:
        raise InvalidParameters(f"unknown {kind} {name!r}; the {kind}s are {', '.join(known)}")
    folder, sign = _FOUND[kind]
    return f"pcbench.{folder}.{name.replace(sign, '_')}"


def closure(*entries: str, root: Path = PACKAGE.parent) -> list[str]:
    """Return the files that the entries depend on, paths relative to ``root``, sorted.

    All imports of a module count, those inside functions too; so do files beside it that it names in a string (templates).
    What is imported by a name that is only known at run time is not seen: name it as an entry.

    Args:
        entries: ``"package.module"``, or ``"package.module:function"`` of one of the modules in `THIN`.
        root: the folder that holds the package.

    Raises:
        PCBenchError: there is no such module or function.
    """
    pending = [tuple(entry.partition(":")[::2]) for entry in entries]
    seen: set[tuple[str, ...]] = set()
    files: set[Path] = set()
    while pending:
        entry = module, name = pending.pop()
        if entry in seen | _CHECKS:
            continue
        seen.add(entry)
        path = _path(module, root)
        if path is None:
            raise PCBenchError(f"there is no module {module!r} under {str(root)!r}")
        if not name and path.relative_to(root).as_posix() in HARMLESS:
            continue
        files.add(path)
        tree = _parsed(path)
        parts = _used(tree, name, module) if name else [tree]
        pending += [(parent, "") for parent in _parents(module)]
        for node in (node for part in parts for node in ast.walk(part)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                pending += _imported(node, module, path, root, parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
                files |= {beside for beside in path.parent.iterdir() if beside.name == node.value and beside.is_file()}
    return sorted({path.relative_to(root).as_posix() for path in files} - HARMLESS)


def of_command(command: str, *modules: str, root: Path = PACKAGE.parent) -> list[str]:
    """Return the files that ``pcbench <command>`` depends on, see `closure`.

    Args:
        command: its name on the command line.
        modules: what it imports by a name known at run time: a loader, a network.
        root: the folder that holds the package.

    Raises:
        PCBenchError: there is no such command or module.
    """
    for node in _parsed(_path("pcbench.cli", root)).body:
        for decorator in getattr(node, "decorator_list", ()):
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "app.command":
                keywords: Any = decorator.keywords
                named = next((word.value.value for word in keywords if word.arg == "name"), node.name)
                if named == command:
                    return closure(f"pcbench.cli:{node.name}", *modules, root=root)
    raise PCBenchError(f"pcbench has no command {command!r}")


@cache
def digest(command: str, *modules: str) -> str:
    """Return the SHA-256 over the names and contents of the files that a command depends on, see `of_command`.

    Raises:
        PCBenchError: there is no such command or module.
    """
    sha = hashlib.sha256()
    for file in of_command(command, *modules):
        found = content(file)
        sha.update(f"{file}\0{len(found)}\0".encode() + found)
    return sha.hexdigest()


def content(file: str) -> bytes:
    """Return a file's bytes, but for line ends, which are git's business.

    Args:
        file: its path, relative to the folder that holds the package.
    """
    return (PACKAGE.parent / file).read_bytes().replace(b"\r\n", b"\n")


def check_beside(folder: str | Path = ".") -> None:
    """Refuse to run another checkout's code on this one's parameters and results.

    Raises:
        PCBenchError: ``folder`` holds a package ``pcbench`` which is not the one that is running; names both.
    """
    beside = Path(folder).resolve() / "pcbench"
    if (beside / "__init__.py").is_file() and not beside.samefile(PACKAGE):
        raise PCBenchError(
            f"this is the code of {str(PACKAGE)!r}, but the working directory has its own, {str(beside)!r}: its results "
            "would be another code's; run `make repro` there, which sets up .venv for it, and unset PYTHONPATH"
        )


def version(package: Path = PACKAGE) -> tuple[str | None, bool | None]:
    """Return the git commit of the package's checkout, and whether its code has changed since; (None, None) without one."""
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None  # not a file of the repository around it, if there is one
    commit, changed = _git(package, "rev-parse", "HEAD"), _git(package, "status", "--porcelain", "--", ".")
    return commit, None if commit is None or changed is None else bool(changed)


def _git(folder, *arguments):
    """What git prints, or None where there is no git, or no repository with a commit."""
    command = ["git", "-c", f"safe.directory={folder.parent}", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@cache
def _parsed(path):
    return ast.parse(path.read_bytes(), str(path))


def _path(module, root):
    """The file of a module of the package, or None."""
    base = Path(root, *module.split("."))
    found = (path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file())
    return next(found, None)


def _parents(module):
    """The packages that are imported before a module."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _imported(node, module, path, root, parts):
    """The entries that an import statement in ``module`` adds."""
    if isinstance(node, ast.Import):
        names = [(alias.name, None, alias.asname) for alias in node.names]
    else:
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        above = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*above, *filter(None, [node.module])])
        names = [(base, alias.name, alias.asname or alias.name) for alias in node.names]
    found = []
    for base, name, bound in names:
        if not f"{base}.".startswith("pcbench."):
            continue
        inner = f"{base}.{name}"
        if name and _path(inner, root):
            # Of a thin module, what is used of it.
            found += [(inner, used) for used in _attributes(parts, bound)] if inner in THIN else [(inner, "")]
            found += [(parent, "") for parent in _parents(inner)]
        else:
            found.append((base, name if base in THIN else ""))
    return found


def _attributes(parts, name):
    """What is taken from the object ``name``: ``{"x"}`` for ``name.x``."""
    walked = (node for part in parts for node in ast.walk(part) if isinstance(node, ast.Attribute))
    return {node.attr for node in walked if isinstance(node.value, ast.Name) and node.value.id == name}


def _used(tree, name, module):
    """The statements of a module that the function ``name`` uses, directly or through others of the module."""
    defined = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                single = ast.ImportFrom(node.module, [alias], node.level) if isinstance(node, ast.ImportFrom) else node
                defined[alias.asname or alias.name.partition(".")[0]] = single
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                defined |= {inner.id: node for inner in ast.walk(target) if isinstance(inner, ast.Name)}
        elif hasattr(node, "name"):
            defined[node.name] = node
    if name not in defined:
        raise PCBenchError(f"{module} has no {name!r}")
    pending, reached = [name], {}
    while pending:
        each = pending.pop()
        if each in defined and each not in reached:
            reached[each] = defined[each]
            pending += [node.id for node in ast.walk(defined[each]) if isinstance(node, ast.Name)]
    return list(reached.values())
