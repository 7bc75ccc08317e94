"""The calls of a place, made by asking a store."""

from __future__ import annotations

import abc
import contextlib
from typing import TYPE_CHECKING, Any

from flint._remote.breaker import Breaker
from flint._remote.coroutines import RemoteSurface
from flint._stores.lines import StoreLines
from flint.errors import ClosedError, FlintConnectionError, FlintError

if TYPE_CHECKING:
    from flint._stores.questions import Questions
    from flint._surface.types import OnError

_CLOSED = "the limiter is closed"


class StorePlace(RemoteSurface, abc.ABC):
    """A store that decides. A kind of store says how an answer is got, for threads and for event
    loops."""

    def _reach_store(self, questions: Questions, timeout_s: float, on_error: OnError) -> None:
        """To be called once. Connects to nothing yet."""
        self._questions = questions
        self._timeout_s = timeout_s
        self._on_error = on_error
        self._breaker = Breaker()
        self._is_closed = False
        self._begin(None, StoreLines())

    @abc.abstractmethod
    def _exchange(self, asked: Any) -> Any:
        """The answer to what a question's steps ask, or FlintError."""

    @abc.abstractmethod
    async def _exchange_in_loop(self, asked: Any) -> Any:
        """The same for event loops."""

    @abc.abstractmethod
    def _refuse_caller(self, is_loop: bool) -> None:
        """Raise UnsupportedError where what was given serves the other kind of caller alone."""

    @abc.abstractmethod
    def _end_connections(self) -> None:
        """When the limiter is closed."""

    # ---- Asking --------------------------------------------------------------------------------

    def _ask(self, question: Any) -> Any:
        """The answer of the store, or what `on_error` says instead."""
        if self._is_closed:
            raise ClosedError(_CLOSED)
        self._refuse_caller(is_loop=False)
        return super()._ask(question)

    async def _ask_in_loop(self, question: Any) -> Any:
        """The same for event loops."""
        if self._is_closed:
            raise ClosedError(_CLOSED)
        self._refuse_caller(is_loop=True)
        return await super()._ask_in_loop(question)

    def _instead(self, question: Any, error: FlintError) -> Any:
        """What `on_error` answers, else the error."""
        is_trouble = isinstance(error, FlintConnectionError)
        if self._is_closed or self._on_error == "raise" or not is_trouble:
            raise error
        if question.undecided is None:
            raise error
        return question.undecided(self._on_error == "allow")

    def close(self) -> None:
        """Tell of what has been denied, and end the connections. Calls that wait in line raise
        ClosedError, as does every later call. Closing again does nothing."""
        if not self._is_closed:
            # Nothing but totals is lost.
            with contextlib.suppress(FlintError):
                self._ask(self._questions.flush())
            self._give_up()
        self._lines.look_again()

    async def aclose(self) -> None:
        """`close` as a coroutine."""
        if not self._is_closed:
            with contextlib.suppress(FlintError):
                await self._ask_in_loop(self._questions.flush())
            await self._end_loop()
        self._give_up()
        self._lines.look_again()

    async def _end_loop(self) -> None:
        """Wait for the end of what is of this event loop."""

    def _give_up(self) -> None:
        self._is_closed = True
        self._end_connections()
