"""What is public: named in ``__all__``, documented, and the only thing that examples use."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import wegetfinancing

ROOT = Path(__file__).parent.parent
PACKAGE = Path(wegetfinancing.__file__).parent
CONTRIB = sorted(
    f"contrib.{path.stem}"
    for path in (PACKAGE / "contrib").iterdir()
    if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").exists())
)
MODULES = [
    "",
    *CONTRIB,
    "emulator",
    "emulator.app",
    "http",
    "ledger",
    "postbacks",
    "postbacks.wsgi",
    "testing",
    "testing.pytest",
]
PUBLIC = {
    name: set(importlib.import_module(name).__all__)
    for name in (f"wegetfinancing.{module}".rstrip(".") for module in MODULES)
}
REFERENCE = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "reference").glob("*.md"))
)
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").rglob("*.py")),
    ]
}


def test_all_is_what_is_public() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {
        "client",
        "contrib",
        "emulator",
        "postbacks",
        "testing",
    }
    public = {name for name in vars(wegetfinancing) if not name.startswith("_")} - modules
    assert set(wegetfinancing.__all__) - {"__version__"} == public
    assert len(set(wegetfinancing.__all__)) == len(wegetfinancing.__all__)


@pytest.mark.parametrize("module", PUBLIC)
def test_all_names_what_is_there(module: str) -> None:
    there = vars(importlib.import_module(module))
    assert PUBLIC[module] <= set(there)
    assert [name for name in PUBLIC[module] if name.startswith("_")] in ([], ["__version__"])


@pytest.mark.parametrize("module", PUBLIC)
def test_the_reference_has_every_public_name_once(module: str) -> None:
    """What ``:::`` names and is not there ends ``nox -s docs``."""
    shown = re.findall(rf"^::: {re.escape(module)}\.(\w+)$", REFERENCE, re.MULTILINE)
    modules = {name.rpartition(".")[2] for name in PUBLIC if name.startswith(f"{module}.")}
    described = {
        "errors",
        "http",
        "loan_state",
        "deliveries",
        "core",
    }  # modules whose docstring stands above their names
    assert sorted(set(shown) - modules - described) == sorted(PUBLIC[module])
    assert len(shown) == len(set(shown))


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_and_its_members_are_documented(module: str) -> None:
    assert importlib.import_module(module).__doc__
    for name in PUBLIC[module]:
        value = getattr(importlib.import_module(module), name)
        if inspect.isroutine(value) or isinstance(value, type):
            assert value.__doc__, name
        for member, inner in vars(value).items() if isinstance(value, type) else ():
            if callable(inner) and not member.startswith("_"):
                assert inner.__doc__, f"{name}.{member}"


@pytest.mark.parametrize("source", SOURCES)
def test_examples_use_what_is_public(source: str) -> None:
    text = SOURCES[source]
    blocks = [text] if source.endswith(".py") else re.findall(r"```python.*\n((?s:.*?))```", text)
    for node in (node for block in blocks for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wegetfinancing"):
            assert {alias.name for alias in node.names} <= PUBLIC[str(node.module)]
