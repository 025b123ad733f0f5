"""The server of `diorama look`: a catalogue in the browser, on this machine unless told otherwise."""

import mimetypes
import secrets
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Body, Depends, FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from diorama.core.errors import UserError
from diorama.data import Catalogue
from diorama.serve.gallery import Gallery
from diorama.serve.items import Filter

HOME = ("127.0.0.1", "localhost", "::1")
PAGE = Path(__file__).parent / "page"
_SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}  # media may be SVG or HTML
_CONTENT = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
_OURS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache", "Content-Security-Policy": _CONTENT}
_PACKED = "application/octet-stream"

Asked = Annotated[Filter, Depends()]
Json = dict[str, Any]


def app(gallery: Gallery, token: str | None = None) -> FastAPI:
    """The page and what it asks for. With a `token`, only who brings it (`?token=`, then a cookie) is served; without,
    only requests that name this machine as their host, so that no other site's page can ask."""
    server = FastAPI(title="diorama look", docs_url=None, redoc_url=None, openapi_url=None)
    _guard(server, token)
    _page(server)
    _grid(server, gallery)
    _pictures(server, gallery)
    _views(server, gallery)
    _judging(server, gallery)
    return server


def _guard(server: FastAPI, token: str | None) -> None:
    @server.middleware("http")
    async def allowed(request: Request, answer):  # type: ignore[no-untyped-def]
        brought = request.query_params.get("token") or request.cookies.get("token") or ""
        known = (
            secrets.compare_digest(brought.encode(), token.encode()) if token else (request.url.hostname or "") in HOME
        )
        origin = request.headers.get("origin")  # of the page that asks, where a browser says it
        if not known or (origin and origin.split("//")[-1] != request.headers.get("host")):
            return PlainTextResponse("not allowed: open the address that `diorama look` printed", 403)
        response = await answer(request)
        if token and "token" in request.query_params:
            response.set_cookie("token", token, httponly=True, samesite="strict")
        return response

    @server.exception_handler(UserError)
    def wrong(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)


def _page(server: FastAPI) -> None:
    files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.suffix in (".html", ".css", ".js", ".svg")}

    @server.get("/")
    def index() -> Response:
        return Response(files["look.html"], media_type="text/html", headers=_OURS)

    @server.get("/page/{name}")
    def part(name: str) -> Response:
        if name not in files:
            return PlainTextResponse("there is no such file", 404)
        return Response(files[name], media_type=mimetypes.guess_type(name)[0], headers=_OURS)


def _grid(server: FastAPI, gallery: Gallery) -> None:
    @server.get("/about")
    def about() -> Json:
        return gallery.about()

    @server.get("/items")
    def items(
        asked: Asked, sort: str = "location", down: bool = False,
        offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> Response:  # fmt: skip
        return JSONResponse(gallery.items(asked, sort=sort, down=down, offset=offset, limit=limit))

    @server.get("/item/{n}")
    def item(n: int) -> Json:
        return gallery.item(n)

    @server.get("/sheets")
    def sheets(asked: Asked, by: str, across: Annotated[int, Query(ge=1, le=50)] = 12) -> Response:
        return JSONResponse(gallery.sheets(asked, by, across))

    @server.get("/histogram")
    def histogram(of: str) -> Json:
        return gallery.histogram(of)

    @server.get("/threshold")
    def threshold(
        of: str, below: float | None = None, above: float | None = None,
        across: Annotated[int, Query(ge=0, le=100)] = 12,
    ) -> Response:  # fmt: skip
        return JSONResponse(gallery.threshold(of, below, above, across))


def _pictures(server: FastAPI, gallery: Gallery) -> None:
    @server.get("/preview/{n}")
    def preview(n: int) -> Response:
        return Response(gallery.preview(n), media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})

    @server.get("/thumbnails")
    def thumbnails(
        n: Annotated[str, Query(pattern=r"^\d+(,\d+)*$", max_length=12_000)], larger: bool = False
    ) -> Response:
        numbers = [int(number) for number in n.split(",")][:1000]
        return Response(gallery.packed(numbers, larger), media_type=_PACKED)

    @server.get("/frames/{n}")
    def frames(n: int) -> Response:
        images = gallery.frames(n)
        sizes = np.array([len(image) for image in images], "<u4").tobytes()
        return Response(np.uint32(len(images)).tobytes() + sizes + b"".join(images), media_type=_PACKED)

    @server.get("/media/{n}")
    def media(n: int) -> Response:
        found = gallery.media(n)
        if found is None:
            return PlainTextResponse("no longer at its source", 404)
        if isinstance(found, Path):
            return FileResponse(found, headers=_SAFE, media_type=mimetypes.guess_type(found)[0])
        return Response(found, headers=_SAFE, media_type="application/octet-stream")


def _views(server: FastAPI, gallery: Gallery) -> None:
    @server.get("/map")
    def positions(vector: str) -> Response:
        return Response(gallery.map(vector).packed(), media_type=_PACKED)

    @server.get("/map/colours")
    def colours(vector: str, by: str) -> Json:
        codes, legend = gallery.colours(vector, by)
        return {"codes": codes.tobytes().hex(), **legend}

    @server.get("/map/matching")
    def matching(vector: str, asked: Asked) -> Response:
        return Response(gallery.matching(vector, asked).tobytes(), media_type=_PACKED)

    @server.post("/map/lasso")
    def lasso(
        vector: Annotated[str, Body()],
        polygon: Annotated[list[tuple[float, float]], Body(min_length=3, max_length=2000)],
    ) -> Json:
        return gallery.select(gallery.map(vector).inside(polygon))

    @server.get("/groups")
    def groups(
        reason: str = "", offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> Response:
        return JSONResponse(gallery.groups(reason, offset, limit))

    @server.get("/runs")
    def runs() -> list[Json]:
        return gallery.versions.runs()

    @server.get("/changes")
    def changes(a: int, b: int) -> Json:
        return {"changes": gallery.versions.changes(a, b), "policy": gallery.versions.policies(a, b)}

    @server.post("/changes/select")
    def select_change(
        a: Annotated[int, Body()], b: Annotated[int, Body()], new: Annotated[tuple[str, str], Body()],
        old: Annotated[tuple[str, str] | None, Body()] = None,
    ) -> Json:  # fmt: skip
        return gallery.select_change(a, b, old, new)


def _judging(server: FastAPI, gallery: Gallery) -> None:
    @server.get("/sample")
    def sample(size: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        return JSONResponse(gallery.sample(size))

    @server.get("/estimates")
    def estimates() -> Json:
        return gallery.estimates()

    @server.post("/judge")
    def judge(
        ids: Annotated[list[str], Body()],
        verdict: Annotated[Literal["keep", "drop", "undo", "caption", "label"], Body()],
        person: Annotated[str, Body()], reason: Annotated[str | None, Body()] = None,
    ) -> Json:  # fmt: skip
        gallery.judge(ids, verdict, reason, person)
        return {"judged": len(ids)}


def serve(catalogue: Path | str, host: str, port: int) -> None:
    """Serve the page until Ctrl-C; prints its address. Raises `UserError` for a catalogue that is
    not finished, or an address that is taken."""
    import uvicorn

    Catalogue(catalogue)  # a wrong path is said before a port that is taken
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot serve at {host}:{port} ({error.strerror}): give another --port or --host"
            ) from None
    gallery = Gallery(catalogue)
    token = None if host in HOME else secrets.token_urlsafe(16)
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}/{f'?token={token}' if token else ''}   (Ctrl-C ends it)", flush=True)
    try:
        uvicorn.run(app(gallery, token), host=host, port=port, log_level="warning")
    finally:
        gallery.close()
