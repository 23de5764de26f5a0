"""The layers of the package, checked against its imports."""

import ast
import re
import sys
from pathlib import Path

import pytest

import wegetfinancing

PACKAGE = Path(wegetfinancing.__file__).parent

LAYERS = [
    ["client", "testing.contract", "errors", "_version", "enums", "_rules", "client.event_loop"],
    ["credentials", "models", "http"],
    ["client.httpx_exchange"],
    [
        "client.middleware",
        "client.retry",
        "client.call",
        "client.httpx_transport",
        "_converter",
        "postbacks.signatures",
    ],
    ["client.operations", "postbacks.dialects", "postbacks.deliveries"],
    ["client.client", "emulator.postbacks", "emulator.validation", "postbacks.loan_state"],
    ["emulator.faults"],
    ["emulator.core"],
    ["emulator", "emulator.outbox", "testing.fakes", "testing.contract.loopback", "postbacks.app"],
    ["postbacks"],
    ["testing.contract.checking"],
    ["testing.contract.sending_checks", "testing.contract.answer_checks"],
    ["testing.contract.transports"],
    ["testing"],
    ["emulator.pages"],
    ["emulator.app", "contrib", "contrib.starlette", "contrib.fastapi", "contrib.redis"],
    ["contrib.opentelemetry"],
    ["emulator.server"],
    ["", "__main__"],
]
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}
EXTRAS = [
    "emulator.pages",
    "emulator.app",
    "emulator.server",
    "contrib.starlette",
    "contrib.fastapi",
    "contrib.redis",
    "contrib.opentelemetry",
]
SANS_IO = [
    "enums",
    "_rules",
    "models",
    "_converter",
    "client.operations",
    "postbacks.signatures",
    "postbacks.dialects",
    "postbacks.loan_state",
    "credentials",
    "errors",
    "emulator.postbacks",
    "emulator.validation",
    "emulator.faults",
]
ROOT = PACKAGE.parent


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imports_of(module: str) -> set[str]:
    """Name the modules of the package that ``module`` imports, anywhere in it."""
    path = MODULES[module]
    parts = path.relative_to(PACKAGE).parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parts[: len(parts) - node.level + 1]
            inside = [node.module] if node.module else [alias.name for alias in node.names]
            found.update(".".join([*base, name]) for name in inside)
        elif isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("wegetfinancing"), "modules never name the root"
    return found


def third_party_of(module: str) -> set[str]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    froms = {
        str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level
    }
    return {name.partition(".")[0] for name in names | froms}


def test_every_module_has_a_layer() -> None:
    assert set(MODULES) == set(LEVEL)


def test_the_drawing_shows_these_layers() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^│ *\d+ │ (.*?) │", design, re.MULTILINE)
    layers = [{"" if name == "wegetfinancing" else name for name in row.split()} for row in reversed(drawn)]
    assert layers == [set(layer) for layer in LAYERS]


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_fall(module: str) -> None:
    for imported in imports_of(module):
        assert imported in LEVEL, f"{module} imports the package root or a name in place of a module"
        assert LEVEL[imported] < LEVEL[module], f"{module} imports {imported}, which is not below it"


@pytest.mark.parametrize("module", SANS_IO)
def test_the_core_awaits_nothing(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    asynchronous = ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith
    assert not [node for node in ast.walk(tree) if isinstance(node, asynchronous)]
    assert not third_party_of(module) & {"anyio", "asyncio", "trio", "socket"}


def test_httpx_is_known_in_one_module() -> None:
    assert [module for module in MODULES if "httpx" in third_party_of(module)] == ["client.httpx_transport"]


def test_the_core_depends_on_what_it_declares_only() -> None:
    third_party = {"anyio", "attrs", "cattrs", "httpx"}
    used = set().union(*(third_party_of(module) for module in MODULES if module not in EXTRAS))
    assert used - set(sys.stdlib_module_names) == third_party
