"""Everything a developer runs: ``nox --list`` shows the sessions, ``nox`` runs those CI runs."""

import hashlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = [
    "lint",
    "typing",
    "docs",
    "build",
    "demo",
    "browser",
    "tests",
    "tests_lowest",
    "tests_each",
]
nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "uv|virtualenv"  # uv installs in a second what takes pip half a minute

# Containers often set it. The tests start hundreds of processes, each of which would compile what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
LOADED_FROM_ELSEWHERE = re.compile(r'<(?:script|img|iframe|source|link)[^>]+(?:src|href)="(?:https?:)?//')
LAST_COMMIT = ["git", "log", "-1", "--format=%ct"]  # when
EXTRAS = "[django,fastapi,flask,otel,redis,emulator,sql]"
# Half of the suite's time is waiting, so it runs faster with more processes than a small machine has cores.
PARALLEL = ["-n", "3", "--dist", "worksteal"]
SHORTER = [*PARALLEL, "-m", "not long and not one_interpreter"]
# What needs neither fork, Unix sockets, signals nor a server: for Windows and macOS.
PORTABLE = """
    answers call client converter credentials dialects emulator emulator_app emulator_dashboard
    emulator_faults emulator_guards errors fastapi flask hooks json ledger_rules loan_state
    merchants middleware models operations postback_app receiving retry rules settings shop
    signatures testing wsgi
"""


def install(session: nox.Session, *groups: str, extras: str = "") -> None:
    """Install the package and dependency groups of pyproject.toml."""
    session.install("-e", f".{extras}", *nox.project.dependency_groups(PYPROJECT, *groups))


def run_suite(session: nox.Session, *arguments: str, command: Sequence[str] = ("pytest",)) -> None:
    """Run pytest, and once more by itself what has failed.

    On a busy machine a deadline of a few hundred milliseconds can pass beside other processes. What fails
    by itself too has failed.
    """
    cache = f"-ocache_dir={Path(session.create_tmp()).resolve() / 'pytest_cache'}"
    try:
        session.run(*command, cache, "--cache-clear", *arguments)
    except nox.command.CommandFailed:
        session.run(*command, cache, "--last-failed", "--last-failed-no-failures=none")


def nox_python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """Make an environment in .venv with everything that development needs."""
    session.run(sys.executable, "-m", "venv", ".venv", external=True)  # Debian has no `python`
    python = next(each for each in Path(".venv").glob("*/python*") if each.stem == "python")
    groups = nox.project.dependency_groups(PYPROJECT, "lint", "typing", "docs")
    session.run(str(python), "-m", "pip", "install", "--quiet", "-e", f".{EXTRAS}", *groups, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style with ruff."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy and pyright, and that every public name has a known one."""
    install(session, "typing", extras=EXTRAS)
    session.run("mypy")
    session.run("pyright")
    verify = ["pyright", "--verifytypes", "wegetfinancing", "--ignoreexternal", "--outputjson"]
    report = str(session.run(*verify, silent=True, success_codes=[0, 1]))
    symbols = json.loads(report[report.index("{") :])["typeCompleteness"]["symbols"]
    # Django's own classes have no types.
    exported = [each for each in symbols if each["isExported"] and ".contrib.django." not in each["name"]]
    unknown = [each["name"] for each in exported if not each["isTypeKnown"] or each["isTypeAmbiguous"]]
    if unknown or not exported:
        session.error(f"these have no type that every checker knows: {unknown}")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, every link and reference checked; ``-- serve`` shows it as you write."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "docs"))
    command = session.posargs or ["build", "--strict", "--clean"]
    session.run("zensical", *command, "--config-file", "docs/mkdocs.yml")
    if not session.posargs:
        site = Path("docs/site").resolve()
        pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
        foreign = [str(page) for page, text in pages.items() if LOADED_FROM_ELSEWHERE.search(text)]
        if foreign:
            session.error(f"these pages load something from another host: {foreign}")
        session.log(f"{len(pages)} pages, to read from {site / 'index.html'}")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite on this Python, every branch of the package covered."""
    install(session, "tests", extras=EXTRAS)
    session.run("coverage", "erase")
    suite = session.posargs or [*PARALLEL, "-m", "not long and not matrix"]
    run_suite(session, *suite, command=["coverage", "run", "-m", "pytest"])
    session.run("coverage", "combine", "--quiet")
    if not session.posargs:
        session.run("coverage", "report")
        run_suite(session, *PARALLEL, "-m", "long or matrix")


@nox.session(python=PYTHONS)
def tests_each(session: nox.Session) -> None:
    """Run the test suite on every other supported Python there is."""
    if session.python == nox_python():
        session.skip("the session tests runs on this one")
    install(session, "tests", extras=EXTRAS)
    run_suite(session, *SHORTER, *session.posargs)


@nox.session
def tests_portable(session: nox.Session) -> None:
    """Run the tests that need nothing of Unix, as CI does on Windows and macOS."""
    install(session, "tests", extras=EXTRAS)
    files = [str(Path("tests") / f"test_{name}.py") for name in PORTABLE.split()]
    run_suite(session, *SHORTER, *files, *session.posargs)


@nox.session
def tests_lowest(session: nox.Session) -> None:
    """Run the test suite with the lowest supported versions of all dependencies."""
    project = PYPROJECT["project"]
    stated = {
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    }
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("\n".join(each.replace(">=", "==") for each in stated), encoding="utf-8")
    groups = nox.project.dependency_groups(PYPROJECT, "tests")
    session.install("--constraint", str(constraints), "-e", f".{EXTRAS}", *groups)
    run_suite(session, *SHORTER, *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheel and sdist twice, check them, and use the wheel with nothing but its dependencies."""
    session.install("build", "twine", "check-wheel-contents", *PYPROJECT["build-system"]["requires"])
    scratch = Path(session.create_tmp()).resolve()
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or str(session.run(*LAST_COMMIT, external=True, silent=True))
    env = {"SOURCE_DATE_EPOCH": epoch.strip()}
    out, again = scratch / "dist", scratch / "again"
    for folder in (out, again):
        shutil.rmtree(folder, ignore_errors=True)
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(folder), env=env)
    hashes = [
        {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(folder.iterdir())}
        for folder in (out, again)
    ]
    if hashes[0] != hashes[1]:
        session.error(f"two builds of the same source differ: {hashes}")
    wheel, sdist = next(out.glob("*.whl")), next(out.glob("*.tar.gz"))
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    session.run("check-wheel-contents", "--ignore=W004", str(wheel))  # Django's migrations begin with a digit
    session.run("python", "-m", "venv", "--clear", str(scratch / "bare"))
    python = next(each for each in (scratch / "bare").glob("*/python*") if each.stem == "python")
    session.run(str(python), "-m", "pip", "install", "--quiet", str(wheel), external=True)
    session.chdir(out)  # so that the wheel is imported and not the checkout
    session.run(str(python), "-c", "import wegetfinancing, wegetfinancing.testing", external=True)
    for name, digest in hashes[0].items():
        session.log(f"{digest}  {out / name}")


@nox.session
def demo(session: nox.Session) -> None:
    """Show the whole flow on a local emulator: create, approve, postback, order, ship."""
    session.install(".[emulator,sql]")
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session
def shop(session: nox.Session) -> None:
    """Run the example shop beside a local emulator, and print both addresses."""
    install(session, "shop", extras=EXTRAS)
    session.chdir("examples")
    session.run("python", "-m", "shop", *session.posargs)


@nox.session
def django_shop(session: nox.Session) -> None:
    """Run the example shop in Django beside a local emulator, and print both addresses."""
    session.install("-e", ".[django,emulator]")
    session.chdir("examples")
    session.run("python", "-m", "django_shop", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Use the example shops and the emulator in a real browser (needs chromium)."""
    if shutil.which("chromium") is None and "CI" not in os.environ:
        session.skip("there is no chromium")
    install(session, "browser", extras=EXTRAS)
    run_suite(session, "tests/browser", *session.posargs)


@nox.session
def workers(session: nox.Session) -> None:
    """Show each decision handled once by four workers that are killed, with figures (needs redis-server)."""
    session.install(f".{EXTRAS}")
    session.run("python", "examples/many_workers.py")


@nox.session
def ledger(session: nox.Session) -> None:
    """Kill workers and restart PostgreSQL under a ledger, with figures (needs PostgreSQL; ten minutes)."""
    install(session, "tests", extras=EXTRAS)
    session.run("python", "tests/ledger_proof.py", *session.posargs)


@nox.session
def django_shop_proof(session: nox.Session) -> None:
    """Kill workers of gunicorn and uvicorn under the example shop in Django, with figures (ten minutes)."""
    install(session, "tests", extras=EXTRAS)
    session.run("python", "tests/django_proof.py", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Change the package in one place at a time: do the tests notice? Prints the score (half an hour)."""
    install(session, "mutation", extras=EXTRAS)
    scratch = Path(session.create_tmp()).resolve() / "checkout"
    # A change of the same size in the same second would meet the bytecode of the one before it.
    session.env["PYTHONDONTWRITEBYTECODE"] = "1"
    session.run("python", "tests/mutation/run.py", str(scratch), *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Print what a call costs beside httpx by hand; fail when a bound of docs/performance.md is missed."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the signature check, the parser and PostbackApp with atheris; a minute by default."""
    session.install("-e", ".", "atheris")
    seconds = session.posargs[0] if session.posargs else "60"
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=5"]
    session.run("python", "tests/fuzz/postbacks.py", *limits, f"-artifact_prefix={session.create_tmp()}/")


@nox.session
def soak(session: nox.Session) -> None:
    """Run 50 workers against faults at random, with figures; two minutes by default."""
    install(session, "tests")
    session.run("python", "tests/soak.py", *session.posargs)
