"""What a client shares with those of other merchants, all in one process and one event loop."""

import os

import attrs

from ..errors import ConfigurationError
from .applications import Applications
from .event_loop import current_event_loop
from .transport import Transport


@attrs.define(eq=False, repr=False, kw_only=True)
class Shared:
    """The settings and connections of a client and of all that ``for_merchant`` has made from it."""

    transport: Transport
    owns_transport: bool
    applications: Applications | None
    timeout: float
    is_closed: bool = False
    event_loop: object = None
    process: int | None = None

    def enter_event_loop(self) -> None:
        """Belong to the running event loop and to this process from the first time on.

        Raises:
            ConfigurationError: it belongs to others.

        """
        current = current_event_loop()
        if self.event_loop is None:
            self.event_loop, self.process = current, os.getpid()
        elif self.process != os.getpid():
            msg = "this AsyncClient was opened before the process forked; make one in each process"
            raise ConfigurationError(msg)
        elif self.event_loop is not current:
            msg = "this AsyncClient belongs to another event loop; make one in each, such as in the lifespan"
            raise ConfigurationError(msg)

    async def aclose(self) -> None:
        """Close what is this client's own, unless another process uses it."""
        self.is_closed = True
        if self.applications is not None:
            self.applications.close()
        if self.owns_transport and self.process in (None, os.getpid()):
            await self.transport.aclose()
