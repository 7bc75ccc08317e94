"""Calls that may wait for the disk for long, and Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Returned = TypeVar("Returned")


def interruptibly(call: Callable[[], Returned]) -> Returned:
    """Make a call in a thread of its own while the main thread, which alone handles signals, waits
    for it. A handler that raises, as Ctrl-C's does, ends the wait; the call goes on by itself."""
    import threading

    if threading.get_ident() != threading.main_thread().ident:
        return call()
    returned: list[Returned] = []
    raised: list[BaseException] = []
    done = threading.Lock()
    done.acquire()

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:
            raised.append(error)
        finally:
            done.release()

    thread = threading.Thread(target=run, name="flint-call", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads can be made, or the interpreter ends
        return call()
    done.acquire()
    thread.join()
    if raised:
        try:
            raise raised[0]
        finally:
            raised.clear()  # the error's frames lead here
    return returned[0]
