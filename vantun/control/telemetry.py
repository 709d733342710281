"""What others watch an appliance by: the metrics that ``metrics.listen`` serves. Without that key none are counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from vantun.config_kinds import Endpoint

if TYPE_CHECKING:
    from vantun.control.metrics import Exporter
    from vantun.control.metrics_server import MetricsServer

Document = Callable[[], Awaitable[Mapping[str, object]]]


class Telemetry:
    """The metrics of an appliance, once they are :meth:`served`; prometheus-client, 2 MB, is loaded then."""

    def __init__(self) -> None:
        self._exporter: Exporter | None = None
        self._server: MetricsServer | None = None

    async def serve(self, listen: Endpoint, document: Document) -> None:
        """Listen, and answer with the metrics of ``document``. Raises ResourceError."""
        from vantun.control.metrics import Exporter
        from vantun.control.metrics_server import MetricsServer

        exporter = Exporter()

        async def page() -> bytes:
            exporter.look(await document())
            return exporter.page()

        self._server = await MetricsServer.start(listen, page)
        self._exporter = exporter

    def look(self, document: Mapping[str, object]) -> None:
        """Take in what was seen of the workers: counters of lanes that end meanwhile are not lost."""
        if self._exporter is not None:
            self._exporter.look(document)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            await self._server.close()
