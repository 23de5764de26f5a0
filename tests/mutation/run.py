"""Change the package in one place at a time and see whether the tests notice.

The changes are cosmic-ray's (https://cosmic-ray.readthedocs.io) and those of ``operators.py``. Each is
tried in a copy of the checkout, by a child that is forked when all but the package is imported: a start
of Python for each would cost most of the time.

It fails when a change goes unnoticed that ``equivalent.toml`` does not explain, and when an explanation has
become needless.
"""

import argparse
import ast
import difflib
import importlib
import os
import resource
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest
from cosmic_ray.mutating import mutate_code
from hypothesis import Phase, settings
from operators import operators

ROOT: Final = Path(__file__).resolve().parent.parent.parent
EQUIVALENT: Final = Path(__file__).with_name("equivalent.toml")
# The tests that answer for a module, those first that know it best.
TESTS: Final = {
    "_ledger.rules": [
        "ledger_rules",
        "ledger_attacks",
        "ledger_client",
        "ledger_postbacks",
        "ledger_contract",
    ],
    "postbacks.signatures": ["signatures", "merchants", "tracebacks"],
    "client.retry": ["retry", "client", "for_merchant"],
    "client.sending": ["client", "middleware", "call", "for_merchant", "hooks"],
    "client.call": ["call", "middleware", "client", "hooks"],
    "errors": ["errors", "answers", "client", "ledger_client", "secrets"],
    "credentials": ["credentials", "settings"],
    "client.settings": ["settings"],
    "client.operations": ["operations", "answers", "client"],
    "client.answers": ["answers", "client"],
    "client.httpx_exchange": [
        "httpx_exchange",
        "httpx_errors",
        "ready_connections",
        "proxies",
        "ready_clients",
        "httpx_transport",
    ],
}
# First one event loop and one library, then everything.
STAGES: Final = (["-k", "not trio and not httpx2"], [])
# Of a module whose tests take long, less: the functions that say what was sent, what a failure means and
# when our own end comes; and those tests on one event loop and with one library that are not slow.
FUNCTIONS: Final = {
    "client.httpx_exchange": {
        "__init__",
        "prepare",
        "prepare_direct",
        "_extensions",
        "trace",
        "_start_sending",
        "failure",
        "out_of_time",
        "_outcome",
    }
}
STAGES_OF: Final = {
    "client.httpx_exchange": (["-k", "not trio and not httpx2 and not crumbs and not tls_context_is_shared"],)
}
PRELOADED: Final = (
    "anyio.pytest_plugin",
    "cattrs",
    "httpcore",
    "httpx",
    "httpx2",
    "hypothesis.stateful",
    "respx",
    "trio",
    "trustme",
)
MAX_MEMORY: Final = 4 * 1024**3


@attrs.frozen
class Change:
    """The lines before and after it; changes that read the same count as one."""

    module: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.module}\n  before = {self.before!r}\n  after = {self.after!r}"


def source_of(module: str, root: Path) -> Path:
    """Say where a module's source is below ``root``."""
    return root.joinpath("wegetfinancing", *module.split(".")).with_suffix(".py")


def changes_of(module: str) -> Iterator[tuple[Change, str]]:
    """Give every change of a module and the source it makes."""
    source = source_of(module, ROOT).read_text(encoding="utf-8")
    lines = _lines_of(source, FUNCTIONS[module]) if module in FUNCTIONS else None
    seen = {source}
    for operator in operators():
        occurrence = 0
        while (changed := mutate_code(source, operator, occurrence)) is not None:
            occurrence += 1
            if changed not in seen and (lines is None or _first_difference(source, changed) in lines):
                seen.add(changed)
                yield Change(module, *_lines_that_differ(source, changed)), changed


def _lines_of(source: str, functions: set[str]) -> set[int]:
    nodes = (each for each in ast.walk(ast.parse(source)) if getattr(each, "name", None) in functions)
    return {line for node in nodes for line in range(node.lineno, node.end_lineno + 1)}


def _first_difference(source: str, changed: str) -> int:
    pairs = zip(source.splitlines(), changed.splitlines(), strict=False)
    return next(number for number, (one, other) in enumerate(pairs, start=1) if one != other)


def _lines_that_differ(source: str, changed: str) -> tuple[str, str]:
    lines = list(difflib.ndiff(source.splitlines(), changed.splitlines()))
    before, after = (" ".join(each[2:].strip() for each in lines if each.startswith(sign)) for sign in "-+")
    return before, after


@attrs.frozen
class Checkout:
    """A copy in which changes are made."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> "Checkout":
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        for name in ("wegetfinancing", "tests"):
            shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", path)
        return cls(path)

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def passes(self, arguments: list[str], timeout: float) -> bool:
        """Run pytest in a forked child; one that does not end does not pass."""
        child = os.fork()
        if child == 0:
            self._be_the_child(arguments)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status) == 0
            time.sleep(0.01)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False

    def _be_the_child(self, arguments: list[str]) -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        os.chdir(self.path)
        sys.path.insert(0, str(self.path))
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, sys.stdout.fileno())
        os.dup2(log, sys.stderr.fileno())
        # What was imported before the fork cannot have its asserts rewritten any more.
        options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        os._exit(int(pytest.main([*options, *arguments])))


def unnoticed_of(module: str, checkout: Checkout) -> tuple[int, list[Change]]:
    """Try every change of a module: how many there are, and which go unnoticed."""
    files = [f"tests/test_{each}.py" for each in TESTS[module]]
    path = source_of(module, checkout.path)
    stages: list[tuple[list[str], float]] = []
    # What does not change is compiled once. A change of the same size within the same second would go
    # unseen, so what changes is compiled each time.
    sys.dont_write_bytecode = False
    for selection in STAGES_OF.get(module, STAGES):
        began = time.monotonic()
        if not checkout.passes([*selection, *files], timeout=600):
            sys.exit(f"the tests of {module} fail without any change:\n{checkout.log.read_text()}")
        stages.append(([*selection, *files], 10 + 4 * (time.monotonic() - began)))
    sys.dont_write_bytecode = True
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
    source = path.read_text(encoding="utf-8")
    changes = list(changes_of(module))
    unnoticed = []
    for number, (change, changed) in enumerate(changes, start=1):
        path.write_text(changed, encoding="utf-8")
        if all(checkout.passes(arguments, timeout) for arguments, timeout in stages):
            unnoticed.append(change)
            print(f"\nunnoticed: {change}")
        print(f"\r{module}: {number} of {len(changes)}", end="", flush=True)
    print()
    path.write_text(source, encoding="utf-8")
    return len(changes), unnoticed


def explained_changes() -> set[Change]:
    """Read which changes make no difference."""
    entries = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["equivalent"]
    assert all(each["reason"].strip() for each in entries)
    return {Change(each["module"], each["before"], each["after"]) for each in entries}


def prepare() -> None:
    """Import what every child needs, and let Hypothesis look for one failure and no smaller one."""
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile("mutation", deadline=None, database=None, derandomize=True, phases=phases)
    settings.load_profile("mutation")
    for name in PRELOADED:
        importlib.import_module(name)


def main() -> int:
    """Try the changes of the modules asked for, or of all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scratch", type=Path)
    parser.add_argument("modules", nargs="*")
    arguments = parser.parse_args()
    prepare()
    checkout = Checkout.make(arguments.scratch.resolve())
    explained = explained_changes()
    faults = []
    for module in arguments.modules or TESTS:
        total, unnoticed = unnoticed_of(module, checkout)
        of_this = {each for each in explained if each.module == module}
        faults += [f"unnoticed and not explained: {each}" for each in unnoticed if each not in of_this]
        faults += [f"explained, but noticed or gone: {each}" for each in of_this.difference(unnoticed)]
        equivalent = sum(each in of_this for each in unnoticed)
        print(f"{module}: {total} changes, {total - len(unnoticed)} noticed, {equivalent} equivalent")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
