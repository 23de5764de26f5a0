"""The architecture of the package, checked against its imports.

Two wings, ``client`` and ``postbacks``, stand on common ground; what is marked as free of I/O reaches no
I/O library by any path.
"""

import ast
import functools
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import wegetfinancing

PACKAGE = Path(wegetfinancing.__file__).parent

NO_IO = [
    "_checks",
    "_converter",
    "_dicts",
    "_json",
    "_ledger.applications",
    "_ledger.decisions",
    "_ledger.matching",
    "_ledger.rows",
    "_ledger.rules",
    "_loan",
    "_rules",
    "_tracebacks",
    "client.answers",
    "client.intents",
    "client.operations",
    "client.settings",
    "credentials",
    "emulator.faults",
    "emulator.postbacks",
    "emulator.responses",
    "emulator.validation",
    "enums",
    "errors",
    "http",
    "models",
    "postbacks.checking",
    "postbacks.decisions",
    "postbacks.dialects",
    "postbacks.events",
    "postbacks.loan_state",
    "postbacks.ordering",
    "postbacks.receiving",
    "postbacks.settings",
    "postbacks.signatures",
    "postbacks.sources",
]
IO_LIBRARIES = {"anyio", "asyncio", "httpcore", "httpx", "selectors", "socket", "ssl", "threading", "trio"}
KNOW_HTTPX = {"client.httpx_connections", "client.httpx_transport"}
CORE_DEPENDENCIES = {"anyio", "attrs", "cattrs", "httpcore", "httpx", "sniffio"}
# What an extra or a framework may be imported in.
OUTSIDE_THE_CORE = (
    "contrib.",
    "emulator.app",
    "emulator.guards",
    "emulator.pages",
    "emulator.server",
    "testing.pytest",
)


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


@functools.cache
def imports_of(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """Name the modules of the package, and the others, that ``module`` imports anywhere in it."""
    parts = MODULES[module].relative_to(PACKAGE).parts[:-1]
    own: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parts[: len(parts) - node.level + 1]
            inside = [node.module] if node.module else [alias.name for alias in node.names]
            own.update(".".join([*base, name]) for name in inside)
        elif isinstance(node, ast.ImportFrom):
            others.add(str(node.module))
        elif isinstance(node, ast.Import):
            others.update(alias.name for alias in node.names)
    return frozenset(own), frozenset(others)


def libraries_of(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(module)[1]}


@functools.cache
def reached_from(module: str) -> frozenset[str]:
    """Follow the imports of ``module`` through the package to the end."""
    reached: set[str] = set()
    following = {module}
    while following:
        own = set().union(*(imports_of(each)[0] for each in following))
        following = own - reached
        reached |= own
    return frozenset(reached)


@pytest.mark.parametrize("module", MODULES)
def test_nobody_imports_the_root_or_a_name_in_place_of_a_module(module: str) -> None:
    own, others = imports_of(module)
    assert own <= set(MODULES) - {""}
    assert not [name for name in others if name.partition(".")[0] == "wegetfinancing"]


def test_no_module_reaches_itself() -> None:
    TopologicalSorter({module: imports_of(module)[0] for module in MODULES}).prepare()


@pytest.mark.parametrize(("wing", "other"), [("client", "postbacks"), ("postbacks", "client")])
def test_a_wing_never_reaches_the_other(wing: str, other: str) -> None:
    for module in MODULES:
        if module.startswith(f"{wing}."):
            there = [each for each in reached_from(module) if each.startswith(f"{other}.") or each == other]
            assert not there, f"{module} reaches {there}"


@pytest.mark.parametrize("module", NO_IO)
def test_what_is_free_of_io_reaches_no_io_library(module: str) -> None:
    for each in {module} | reached_from(module):
        assert not libraries_of(each) & IO_LIBRARIES, f"{module} reaches {each}"
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    asynchronous = ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith
    assert not [node for node in ast.walk(tree) if isinstance(node, asynchronous)]


def test_httpx_is_known_in_its_own_modules_only() -> None:
    assert {module for module in MODULES if "httpx" in libraries_of(module)} <= KNOW_HTTPX


def test_nothing_reaches_pytest_but_the_module_that_a_suite_switches_on() -> None:
    assert {module for module in MODULES if "pytest" in libraries_of(module)} == {"testing.pytest"}
    assert not {module for module in MODULES if "testing.pytest" in imports_of(module)[0]}


def test_the_core_depends_on_what_it_declares_only() -> None:
    core = [module for module in MODULES if not module.startswith(OUTSIDE_THE_CORE)]
    used = set().union(*(libraries_of(module) for module in core))
    assert used - set(sys.stdlib_module_names) == CORE_DEPENDENCIES
