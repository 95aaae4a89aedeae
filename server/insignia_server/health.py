"""grpc.health.v1 of a server that serves until it stops.

grpcio-health-checking's own servicer never ends a Watch, so that a single watcher would hold a graceful stop
for the whole of its grace.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

Context: TypeAlias = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]

SERVICE_NAME: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health:
    """SERVING for ``services`` and for the server as a whole (""), until `stop`."""

    def __init__(self, *services: str) -> None:
        self._services = {"", *services}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Say NOT_SERVING from now on, and end the watches."""
        self._stopping.set()

    async def check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        """Status now."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return self._status(request.service)

    async def watch(self, request: HealthCheckRequest, context: Context) -> None:
        """Status now and whenever it changes."""
        told = self._status(request.service)
        await context.write(told)
        await self._stopping.wait()
        if self._status(request.service) != told:
            await context.write(self._status(request.service))

    def handlers(self) -> grpc.GenericRpcHandler[HealthCheckRequest, HealthCheckResponse]:
        """Handlers of the service."""
        codec = (HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString)
        check = grpc.unary_unary_rpc_method_handler(self.check, *codec)
        watch = grpc.unary_stream_rpc_method_handler(self.watch, *codec)
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {"Check": check, "Watch": watch})

    def _status(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        stopping = self._stopping.is_set()
        status = HealthCheckResponse.NOT_SERVING if stopping else HealthCheckResponse.SERVING
        return HealthCheckResponse(status=status)
