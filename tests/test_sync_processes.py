"""``Client`` in processes that fork, exit and are interrupted: real ones, with real sockets."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.fault_server import FaultServer, Peer
from support.faults import answers_well

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")

ROOT = Path(__file__).parent.parent
# Everything that Python can complain of is an error, which it would print.
STRICT = [sys.executable, "-W", "error"]
BEGINNING = """
import atexit, os, signal, sys, threading
from wegetfinancing import Client
from wegetfinancing.testing import INV_ID, credentials, financing_request, shipping_event

client = Client(credentials(), base_url=sys.argv[1], timeout=float(sys.argv[2]))

def create():
    return client.create_request(financing_request()).inv_id

def ship():
    return client.update_shipping(INV_ID, shipping_event()).loan
"""
CALLS_SECONDS = 60.0


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(answers_well) as server:
        yield server


def start(
    script: str, server: FaultServer, *, host: str = "127.0.0.1", before: str = "", is_covered: bool = True
) -> "subprocess.Popen[str]":
    """Run the script in a process of its own; ``before`` is run before there is a client."""
    environment = {name: value for name, value in os.environ.items() if is_covered or "COVERAGE" not in name}
    text = before + BEGINNING + textwrap.dedent(script)
    return subprocess.Popen(  # noqa: S603 - the text above
        [*STRICT, "-c", text, f"http://{host}:{server.port}", str(CALLS_SECONDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for the end, far sooner than a call's timeout, and return the exit status and what was printed."""
    with process:
        try:
            printed, complained = process.communicate(timeout=CALLS_SECONDS / 2)
        finally:
            process.kill()
    return process.returncode, printed, complained


# Exits without close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])  # a name is looked up in an executor's thread
@pytest.mark.parametrize(
    "end", ["", "sys.exit()", "del client", "threading.Thread(target=print, args=[create()]).start()"]
)
def test_an_interpreter_that_exits_without_close_neither_hangs_nor_prints(
    server: FaultServer, host: str, end: str
) -> None:
    script = f"create(); ship(); print(len(threading.enumerate()) > 1)\n{end}"
    status, printed, complained = ended(start(script, server, host=host))
    if end == "del client":
        assert complained.count("ResourceWarning") == 1
        assert "ResourceWarning: a Client was dropped without being closed" in complained
    else:
        assert complained == ""
    assert (status, printed.splitlines()[0]) == (0, "True")


LATE = """
import atexit

def late():
    thread.join(30)
    try:
        create()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")

atexit.register(late)
"""


def test_a_call_in_an_atexit_handler_succeeds_or_is_refused(server: FaultServer) -> None:
    """Handlers run in reverse order; the client's own was registered when the client was made."""
    script = """
    thread = threading.current_thread()
    thread.join = lambda _: None
    ship()
    atexit.register(lambda: print(create() == INV_ID))
    """
    assert ended(start(script, server, before=LATE)) == (
        0,
        "True\nConfigurationError: this Client is closed; make a new one\n",
        "",
    )


def test_an_exit_cancels_what_a_daemon_thread_still_waits_for() -> None:
    script = """
    def wait():
        try:
            create()
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    input()
    """
    read = threading.Event()

    def read_and_never_answer(peer: Peer) -> None:
        peer.read_request()
        read.set()
        peer.silence()

    with FaultServer(read_and_never_answer) as server, start(script, server, before=LATE) as process:
        assert read.wait(30)
        printed, complained = process.communicate("\n", timeout=CALLS_SECONDS / 2)
    assert (process.returncode, complained) == (0, "")
    assert printed == (
        "TransportError: create_request: the call was cancelled in its event loop. It may have been"
        " carried out.\nConfigurationError: this Client is closed; make a new one\n"
    )


def test_an_exit_waits_for_a_thread_that_is_not_a_daemon(server: FaultServer) -> None:
    script = """
    def work():
        threading.main_thread().join()
        for _ in range(20):
            create()
        print("done", flush=True)

    create()
    threading.Thread(target=work).start()
    """
    assert ended(start(script, server)) == (0, "done\n", "")
    assert len(server.arrivals) == 21


def test_a_first_call_after_the_main_thread_has_ended_succeeds_or_was_not_sent(server: FaultServer) -> None:
    """From Python 3.12 on the interpreter starts no thread any more."""
    script = """
    def work():
        threading.main_thread().join()
        try:
            print(bool(create()), flush=True)
        except Exception as error:
            print(error.outcome.name, flush=True)

    threading.Thread(target=work).start()
    """
    status, printed, complained = ended(start(script, server))
    assert (status, complained) == (0, "")
    assert printed == ("True\n" if server.arrivals else "NOT_SENT\n")


def test_a_middleware_that_blocks_the_event_loop_does_not_hold_up_the_exit_for_ever(
    server: FaultServer,
) -> None:
    script = """
    import time
    blocked = threading.Event()

    async def block(request, call_next):
        blocked.set()
        time.sleep(1000)

    client = Client(credentials(), base_url=sys.argv[1], middleware=[block])
    threading.Thread(target=create, daemon=True).start()
    blocked.wait()
    """
    assert ended(start(script, server)) == (0, "", "")


# Ctrl-C


def test_ctrl_c_ends_a_call_and_says_that_it_may_have_been_carried_out() -> None:
    processes: list[subprocess.Popen[str]] = []
    started = threading.Event()

    def interrupt(peer: Peer) -> None:
        peer.read_request()
        started.wait(30)
        processes[0].send_signal(signal.SIGINT)
        peer.silence()

    with FaultServer(interrupt) as server:
        processes.append(start("create()", server))
        started.set()
        status, printed, complained = ended(processes[0])
        assert len(server.arrivals) == 1
    assert (status, printed) == (-signal.SIGINT, "")
    assert complained.endswith(
        "KeyboardInterrupt\ncreate_request was interrupted. It may have been carried out.\n"
    )
    assert "Error" not in complained


def test_a_term_signal_that_exits_ends_a_call_too() -> None:
    """As gunicorn's workers do when they are told to stop at once."""
    script = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    create()
    """
    processes: list[subprocess.Popen[str]] = []
    started = threading.Event()

    def interrupt(peer: Peer) -> None:
        peer.read_request()
        started.wait(30)
        processes[0].send_signal(signal.SIGTERM)
        peer.silence()

    with FaultServer(interrupt) as server:
        processes.append(start(script, server))
        started.set()
        assert ended(processes[0]) == (7, "", "")


# Forks

FORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork with threads

def fork(work):
    child = os.fork()
    if child == 0:
        work()
        sys.exit(7)  # an exit as any other, with its atexit handlers
    return child

def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def test_each_forked_process_opens_the_client_again(server: FaultServer) -> None:
    script = """
    ship()

    def work():
        assert [each.name for each in threading.enumerate()] == ["MainThread"]
        create()
        ship()
        assert status_of(fork(create)) == 7  # and its child again
        client.close()

    children = [fork(work) for _ in range(3)]
    ship()
    print([status_of(child) for child in children])
    ship()
    client.close()
    """
    assert ended(start(FORK + textwrap.dedent(script), server)) == (0, "[7, 7, 7]\n", "")
    assert len(server.arrivals) == 3 + 3 * 3
    # Of the parent's one connection that it kept alive no child made use. On a busy machine the children may
    # take so long that the parent opens another one.
    assert server.used_connections in {1 + 3 * 3, 2 + 3 * 3}


def test_a_child_that_never_calls_exits_in_silence(server: FaultServer) -> None:
    script = """
    import gc
    ship()
    print(status_of(fork(gc.collect)), status_of(fork(client.close)))
    print(status_of(fork(lambda: globals().pop("client"))))
    ship()
    """
    assert ended(start(FORK + textwrap.dedent(script), server)) == (0, "7 7\n7\n", "")
    assert server.connections == 1


def test_forks_while_other_threads_call_are_safe(server: FaultServer) -> None:
    script = """
    over = threading.Event()

    def keep_calling():
        while not over.is_set():
            create()
            ship()

    def keep_opening():
        global client
        while not over.is_set():
            with Client(credentials(), base_url=sys.argv[1]) as client:
                ship()

    threads = [threading.Thread(target=each) for each in [keep_calling] * 4 + [keep_opening] * 2]
    client_of_all = client
    keep_calling.__globals__["create"] = lambda: client_of_all.create_request(financing_request())
    keep_calling.__globals__["ship"] = lambda: client_of_all.update_shipping(INV_ID, shipping_event())
    for thread in threads:
        thread.start()
    statuses = {status_of(fork(lambda: (create(), ship()))) for _ in range(12)}
    over.set()
    for thread in threads:
        thread.join()
    print(statuses)
    """
    # What measures coverage has locks of its own, which such forks leave locked.
    process = start(FORK + textwrap.dedent(script), server, is_covered=False)
    assert ended(process) == (0, "{7}\n", "")


def test_a_pool_of_processes_that_were_forked(server: FaultServer) -> None:
    script = """
    import multiprocessing
    ship()
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(pool.starmap(create, [()] * 12) == [INV_ID] * 12)
        pool.close()
        pool.join()
    """
    assert ended(start(FORK + textwrap.dedent(script), server)) == (0, "True\n", "")
    assert len(server.arrivals) == 1 + 12


APP = """
import os, sys, threading
sys.path.insert(0, "tests")
from wegetfinancing import Client
from wegetfinancing.testing import INV_ID, credentials, financing_request, shipping_event

client = Client(credentials(), base_url=os.environ["VENDOR"])
client.update_shipping(INV_ID, shipping_event())  # before the fork

def app(environ, start_response):
    client.create_request(financing_request())
    client.update_shipping(INV_ID, shipping_event())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_gunicorn_with_preload_and_two_workers(server: FaultServer, tmp_path: Path, kind: str) -> None:
    (tmp_path / "shop_under_gunicorn.py").write_text(APP, encoding="utf-8")
    command = [*STRICT[:1], "-W", "ignore::DeprecationWarning", "-m", "gunicorn", "--preload", "-w", "2"]
    command += ["-k", kind, "--threads", "4" if kind == "gthread" else "1", "--graceful-timeout", "60"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    with subprocess.Popen(  # noqa: S603 - as above
        [*command, "-b", "127.0.0.1:0", "--no-control-socket", "shop_under_gunicorn:app"],
        env=environment | {"VENDOR": f"http://127.0.0.1:{server.port}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not (found := re.search(r"Listening at: (\S+)", "".join(lines))):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        workers = {httpx.get(found[1], timeout=60).text for _ in range(20)}
        began = time.monotonic()
        process.terminate()
        rest, _ = process.communicate(timeout=60)
        assert time.monotonic() - began < 20  # the graceful timeout is longer
    assert process.returncode == 0
    assert 1 <= len(workers) <= 2
    assert not re.search(r"Error|Traceback|Warning", "".join(lines) + rest), rest
    assert len(server.arrivals) == 1 + 2 * 20


# Greenlets


@pytest.mark.parametrize("patched", ["", "thread=False", "select=False, queue=False"])
def test_under_gevent_it_says_in_one_sentence_that_it_does_not_work(
    server: FaultServer, patched: str
) -> None:
    script = f"""
import gevent.monkey
gevent.monkey.patch_all({patched})
{BEGINNING}
try:
    create()
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""
    command = [sys.executable, "-c", script, f"http://127.0.0.1:{server.port}", "60"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - as above
    assert done.stdout == (
        "ConfigurationError: a Client does not work under gevent's monkey-patching, since its event loop"
        " needs a real thread; use threads instead, such as gunicorn's gthread worker\n"
    )
    assert server.connections == 0


def test_where_gevent_is_there_and_patches_nothing_it_works(server: FaultServer) -> None:
    assert ended(start("import gevent.monkey; print(create())", server))[0] == 0
