"""Every place that says which Pythons are supported says the same."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_metadata_name_them() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    prefix = "Programming Language :: Python :: "
    named = [each.removeprefix(prefix) for each in project["classifiers"] if each.startswith(f"{prefix}3.")]
    assert named == PYTHONS
    assert project["requires-python"] == f">={PYTHONS[0]}"


def test_nox_and_the_workflow_test_them() -> None:
    assert re.findall(r"^PYTHONS = \[(.*)\]$", text("noxfile.py"), re.MULTILINE) == [
        ", ".join(f'"{each}"' for each in PYTHONS)
    ]
    (matrix,) = re.findall(r"python: \[(.*)\]", text(".github/workflows/ci.yml"))
    assert matrix == ", ".join(f'"{each}"' for each in PYTHONS[1:])
    assert re.findall(r"for version in (.*); do", text(".ci/run")) == [" ".join(PYTHONS[1:])]


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", ".github/CONTRIBUTING.md"])
def test_the_pages_name_the_first_and_the_last(page: str) -> None:
    assert set(re.findall(r"3\.\d+ to 3\.\d+", text(page))) == {f"{PYTHONS[0]} to {PYTHONS[-1]}"}


def test_the_portable_tests_are_there() -> None:
    (names,) = re.findall(r'^PORTABLE = """$(.*?)^"""$', text("noxfile.py"), re.MULTILINE | re.DOTALL)
    assert len(names.split()) > 20
    assert [each for each in names.split() if not (ROOT / "tests" / f"test_{each}.py").is_file()] == []
