"""The server of `diorama look`: a catalogue in the browser, on this machine unless told otherwise."""

import mimetypes
import secrets
import socket
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Body, FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from diorama.core.errors import UserError
from diorama.serve.gallery import Gallery

HOME = ("127.0.0.1", "localhost", "::1")
_SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}  # media may be SVG or HTML


def app(gallery: Gallery, token: str | None = None) -> FastAPI:
    """The page and what it asks for. With a `token`, only who brings it (`?token=`, then a cookie) is served; without,
    only requests that name this machine as their host, so that no other site's page can ask."""
    server = FastAPI(title="diorama look", docs_url=None, redoc_url=None, openapi_url=None)
    page = (Path(__file__).parent / "look.html").read_text()

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

    @server.get("/")
    def index() -> Response:
        return Response(page, media_type="text/html")

    @server.get("/about")
    def about() -> dict:  # type: ignore[type-arg]
        return gallery.about()

    @server.get("/items")
    def items(
        verdict: str = "", reason: str = "", words: str = "", measure: str = "", low: float | None = None,
        high: float | None = None, sort: str = "location", down: bool = False,
        offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> dict:  # type: ignore[type-arg]  # fmt: skip
        return gallery.items(verdict=verdict, reason=reason, words=words, measure=measure, low=low, high=high,
                             sort=sort, down=down, offset=offset, limit=limit)  # fmt: skip

    @server.get("/histogram")
    def histogram(measure: str) -> dict:  # type: ignore[type-arg]
        return gallery.histogram(measure)

    @server.get("/explain/{n}")
    def explain(n: int) -> PlainTextResponse:
        return PlainTextResponse(gallery.explain(n))

    @server.get("/preview/{n}")
    def preview(n: int) -> Response:
        return Response(gallery.preview(n), media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})

    @server.get("/media/{n}")
    def media(n: int) -> Response:
        found = gallery.media(n)
        if found is None:
            return PlainTextResponse("no longer at its source", 404)
        if isinstance(found, Path):
            return FileResponse(found, headers=_SAFE, media_type=mimetypes.guess_type(found)[0])
        return Response(found, headers=_SAFE, media_type="application/octet-stream")

    @server.post("/judge")
    def judge(
        ids: Annotated[list[str], Body()], verdict: Annotated[Literal["keep", "drop", "undo"], Body()],
        person: Annotated[str, Body()], reason: Annotated[str | None, Body()] = None,
    ) -> dict:  # type: ignore[type-arg]  # fmt: skip
        gallery.judge(ids, verdict, reason, person)
        return {"judged": len(ids)}

    return server


def serve(catalogue: Path | str, host: str, port: int) -> None:
    """Serve the page until Ctrl-C; prints its address. Raises `UserError` for an address that is taken, or a
    catalogue that is not finished."""
    import uvicorn

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
