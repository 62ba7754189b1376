"""The addresses of the service, as a FastAPI application: /docs shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from trtkit import __version__
from trtkit.errors import TrtkitError
from trtkit.serve import kserve
from trtkit.serve.model import VERSION
from trtkit.serve.refusal import Refusal, error_response
from trtkit.serve.service import Service

TENSOR = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

IMAGE_OR_TENSOR = {
    "image/*": {"schema": {"type": "string", "format": "binary"}},
    "multipart/form-data": {
        "schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
    },
    **TENSOR,
}

QUERY = [
    {"name": name, "in": "query", "required": False, "schema": {"type": "string"}, "description": told}
    for name, told in {
        "top": "classes that are told of an image",
        "shape": "of a bare tensor, as 1x3x224x224",
        "dtype": "of a bare tensor, as float32",
        "output": "which output to give for a bare tensor",
    }.items()
]

V2 = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}, **TENSOR},
        "description": "inputs and outputs as the KServe v2 inference protocol has them",
    }
}

PLAIN = {"requestBody": {"required": True, "content": IMAGE_OR_TENSOR}, "parameters": QUERY}


class BareRoute(APIRoute):
    """An address whose function takes the request and gives the response, without FastAPI's work in between:
    of a fast model's answer that would be a large part."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def make_app(service: Callable[[], Service]) -> FastAPI:
    """The application. `service` is asked for when a request comes."""
    app = FastAPI(title="trtkit", version=__version__)
    app.add_exception_handler(TrtkitError, _told)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)
    app.include_router(_infer_routes(service))
    app.include_router(_health_routes(service))
    app.include_router(_v2_routes(service), prefix="/v2")
    return app


def _infer_routes(service: Callable[[], Service]) -> APIRouter:
    routes = APIRouter(route_class=BareRoute, tags=["inference"])

    @routes.post("/infer", openapi_extra=PLAIN)
    async def infer(request: Request) -> Response:
        """Images or a bare tensor in; the best classes, or all outputs, out."""
        return await service().infer(request)

    @routes.post("/v2/models/{name}/infer", openapi_extra=V2)
    @routes.post("/v2/models/{name}/versions/{version}/infer", openapi_extra=V2)
    async def kserve_infer(request: Request) -> Response:
        """Inference by the KServe v2 protocol, with binary tensor data if wanted."""
        _check_name(service(), **request.path_params)
        return await service().kserve_infer(request)

    return routes


def _health_routes(service: Callable[[], Service]) -> APIRouter:
    routes = APIRouter(tags=["operation"])

    @routes.get("/health")
    async def health() -> JSONResponse:
        """Whether this process can serve at all; if not, only a new one can."""
        return _live(service())

    @routes.get("/ready")
    async def ready() -> JSONResponse:
        """Whether requests are taken now."""
        return _ready(service())

    @routes.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        text = await asyncio.get_running_loop().run_in_executor(None, service().metrics.text)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return routes


def _v2_routes(service: Callable[[], Service]) -> APIRouter:
    routes = APIRouter(tags=["KServe v2"])

    @routes.get("")
    async def server() -> dict[str, Any]:
        return {"name": "trtkit", "version": __version__, "extensions": ["binary_tensor_data"]}

    @routes.get("/health/live")
    async def live() -> JSONResponse:
        return _live(service())

    @routes.get("/health/ready")
    async def ready() -> JSONResponse:
        return _ready(service())

    @routes.get("/models/{name}")
    @routes.get("/models/{name}/versions/{version}")
    async def model(name: str, version: str = VERSION) -> dict[str, Any]:
        _check_name(service(), name, version)
        return kserve.metadata(service().model)

    @routes.get("/models/{name}/ready")
    @routes.get("/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str = VERSION) -> JSONResponse:
        _check_name(service(), name, version)
        return _ready(service())

    return routes


def _live(service: Service) -> JSONResponse:
    if service.batcher.lost:
        raise service.batcher.lost
    return JSONResponse({"live": True})


def _ready(service: Service) -> JSONResponse:
    service.batcher.check_running()
    return JSONResponse({"ready": True, "name": service.model.name})


def _check_name(service: Service, name: str, version: str = VERSION) -> None:
    has = service.model.name
    if name != has:
        raise Refusal(
            404, f"there is no model {name!r} here", ("has", has), ("next", f"use /v2/models/{has}")
        )
    if version != VERSION:
        raise Refusal(404, f"{name} has no version {version!r}", ("has", VERSION), ("next", "leave it out"))


async def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, TrtkitError)
    return error_response(error)


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(
        {"error": error.detail, "next": "GET /docs shows the addresses"}, error.status_code, error.headers
    )


async def _unforeseen(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": "this server failed", "because": type(error).__name__}, 500)
