"""Blocking functions in threads of their own."""

import asyncio
import contextlib
import threading

import anyio
import pytest

from wegetfinancing._threads import Threads


def test_a_function_that_outlives_its_event_loop_leaves_its_thread_to_the_next() -> None:
    """The loop has stopped and is not closed yet, as while ``asyncio.run`` ends."""
    threads, go_on = Threads(1, "test"), threading.Event()

    async def give_up() -> None:
        with anyio.move_on_after(0):
            await threads.run(go_on.wait)

    with contextlib.closing(asyncio.new_event_loop()) as event_loop:
        event_loop.run_until_complete(give_up())
        go_on.set()
        assert threads.submit(lambda: "next").result(timeout=10) == "next"
    threads.close()


@pytest.mark.anyio
async def test_what_nobody_waits_for_any_more_is_dropped_only_where_that_is_asked_for() -> None:
    threads, go_on = Threads(1, "test"), threading.Event()
    begun: list[str] = []
    threads.submit(go_on.wait)
    with anyio.move_on_after(0):
        await threads.run_unless_late(lambda: begun.append("dropped"))
    with anyio.move_on_after(0):
        await threads.run(lambda: begun.append("runs on"))
    go_on.set()
    assert await threads.run_unless_late(lambda: "next") == "next"
    assert begun == ["runs on"]
    threads.close()
