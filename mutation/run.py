"""Change the package in one place at a time and see whether the tests notice.

The changes are cosmic-ray's (https://cosmic-ray.readthedocs.io) and those of ``operators.py``. Each is
tried in a copy of the checkout, by a child that is forked when all but the package is imported: a start
of Python for each would cost most of the time.

It fails when a change goes unnoticed that ``equivalent.toml`` does not explain, when an explanation has
become needless, and when ``docs/mutation.md`` shows other figures.
"""

import difflib
import importlib
import os
import re
import resource
import shutil
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest
from cosmic_ray.mutating import mutate_code
from hypothesis import Phase, settings

from operators import operators

ROOT: Final = Path(__file__).parent.parent
EQUIVALENT: Final = ROOT / "mutation" / "equivalent.toml"
PAGE: Final = ROOT / "docs" / "mutation.md"
COPIED: Final = ("wegetfinancing", "tests", "pyproject.toml")
# The tests that answer for a module, those first that know it best.
TESTS: Final = {
    "signatures": ["signatures"],
    "retry": ["retry", "client"],
    "calls": ["middleware", "client"],
    "errors": ["errors", "client"],
    "config": ["config"],
    "operations": ["client", "errors"],
    "httpx_exchange": ["httpx_transport"],
    "httpx_transport": ["httpx_transport"],
}
# First one event loop and one library, then everything.
STAGES: Final = (["-k", "not trio and not httpx2"], [])
PRELOADED: Final = (
    "anyio.pytest_plugin",
    "cattrs",
    "fakeredis",
    "httpcore",
    "httpx",
    "httpx2",
    "hypothesis.stateful",
    "respx",
    "trio",
    "trustme",
)
_MEMORY: Final = 4 * 1024**3


@attrs.frozen(order=True)
class Mutant:
    """One change: the lines before and after it."""

    module: str
    before: str
    after: str
    source: str = attrs.field(repr=False, order=False)
    operator: str = attrs.field(order=False)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.module, self.before, self.after


def mutants_of(module: str) -> Iterator[Mutant]:
    source = (ROOT / "wegetfinancing" / f"{module}.py").read_text(encoding="utf-8")
    seen = {source}
    for name, operator in operators().items():
        occurrence = 0
        while (mutated := mutate_code(source, operator, occurrence)) is not None:
            occurrence += 1
            if mutated not in seen:
                seen.add(mutated)
                before, after = changed_lines(source, mutated)
                yield Mutant(module, before, after, mutated, name)


def changed_lines(source: str, mutated: str) -> tuple[str, str]:
    changes = list(difflib.ndiff(source.splitlines(), mutated.splitlines()))
    before, after = (" ".join(each[2:].strip() for each in changes if each.startswith(sign)) for sign in "-+")
    return before, after


def run_tests(checkout: Path, arguments: list[str], timeout: float) -> bool | None:
    """Run pytest in a forked child: did it pass? ``None`` if it did not end."""
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        os.chdir(checkout)
        sys.path.insert(0, str(checkout))
        log = os.open(checkout / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        os._exit(int(pytest.main([*options, *arguments])))
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def survivors_of(module: str, checkout: Path) -> tuple[int, list[Mutant]]:
    """Try every change of a module: how many there are, and which go unnoticed."""
    files = [f"tests/test_{each}.py" for each in TESTS[module]]
    path = checkout / "wegetfinancing" / f"{module}.py"
    source = path.read_text(encoding="utf-8")
    stages: list[tuple[list[str], float]] = []
    for selection in STAGES:
        began = time.monotonic()
        if not run_tests(checkout, [*selection, *files], timeout=600):
            sys.exit(f"the tests of {module} fail without any change:\n{(checkout / 'log.txt').read_text()}")
        stages.append(([*selection, *files], 10 + 4 * (time.monotonic() - began)))
    mutants = list(mutants_of(module))
    survivors = []
    for number, mutant in enumerate(mutants, start=1):
        path.write_text(mutant.source, encoding="utf-8")
        if all(run_tests(checkout, arguments, timeout) for arguments, timeout in stages):
            survivors.append(mutant)
        print(f"\r{module}: {number} of {len(mutants)}, {len(survivors)} survive", end="", flush=True)
    print()
    path.write_text(source, encoding="utf-8")
    return len(mutants), survivors


def main(modules: list[str], scratch: Path, *, write: bool) -> int:
    settings.register_profile(
        "mutation", deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
    )
    settings.load_profile("mutation")
    for name in PRELOADED:
        importlib.import_module(name)
    sys.dont_write_bytecode = True  # a change within the same second and of the same size would not be seen
    shutil.rmtree(scratch, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        scratch.mkdir(parents=True, exist_ok=True)
        if copy is shutil.copytree:
            shutil.copytree(ROOT / name, scratch / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, scratch / name)
    explained = {
        (each["module"], each["before"], each["after"])
        for each in tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["equivalent"]
    }
    rows, faults = [], []
    for module in modules:
        total, survivors = survivors_of(module, scratch)
        keys = {each.key for each in survivors}
        faults += [
            f"{each.module}: unnoticed ({each.operator})\n  - {each.before}\n  + {each.after}"
            for each in survivors
            if each.key not in explained
        ]
        faults += [
            f"{module}: explained, but noticed or gone\n  - {before}\n  + {after}"
            for name, before, after in sorted(explained)
            if name == module and (name, before, after) not in keys
        ]
        equivalent = sum(each.key in explained for each in survivors)
        rows.append(f"| `{module}` | {total} | {total - len(survivors)} | {equivalent} |")
    print("\n".join(["| module | changes | noticed | equivalent |", "|---|---:|---:|---:|", *rows]))
    page = PAGE.read_text(encoding="utf-8")
    if write:
        for row in rows:
            page = re.sub(rf"^{re.escape(row.split(' | ')[0])} \|.*$", row, page, flags=re.MULTILINE)
        PAGE.write_text(page, encoding="utf-8")
    faults += [f"docs/mutation.md does not show: {row}" for row in rows if row not in page]
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    chosen = [each for each in sys.argv[2:] if not each.startswith("-")]
    sys.exit(main(chosen or list(TESTS), Path(sys.argv[1]).resolve(), write="--write" in sys.argv))
