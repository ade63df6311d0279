"""What the review server answers: pages for people, and an interface under /api that OpenAPI
describes.

What is polled carries an ETag, so that an asker who has it already is told so in a few bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Header, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from sweeps import decisions
from sweeps.decisions import (
    MOST_TEXT,
    ChangedRankingError,
    DamagedError,
    Decision,
    DecisionError,
)
from sweeps.plain_text import printable
from sweeps.ranking import fingerprint
from sweeps.review import pages
from sweeps.review.access import COOKIE, Access
from sweeps.review.comparison import Comparison, compare
from sweeps.review.errors import MissingError
from sweeps.review.runs import Runs, Summary
from sweeps.review.watched import TROUBLE, Told, tag_of

Run = Annotated[str, Path(description="The name of a run: of its folder.", min_length=1)]
Model = Annotated[str, Path(description="The id of a model.", min_length=1)]
Tag = Annotated[str | None, Header(description="The tag of the answer that the asker has.")]


_SOMETHING = r"\S"
"""Texts that are more than spaces."""


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class Choice(BaseModel):
    """A decision to be recorded; ``ranking`` is the fingerprint of the ranking it is made from."""

    model_id: str = Field(min_length=1, max_length=100)
    reviewer: str = Field(pattern=_SOMETHING, max_length=MOST_TEXT)
    reason: str = Field(pattern=_SOMETHING, max_length=MOST_TEXT)
    ranking: str = Field(pattern="^[0-9a-f]{64}$")


class Decisions(BaseModel):
    """All decisions of a run, the first first, and whether the ranking of the last still stands."""

    decisions: list[Decision]
    stands: bool | None


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem} for code in codes}


def build_app(runs: Runs, token: str | None = None) -> Access:
    """The server's ASGI application, which demands the token if there is one."""
    app = FastAPI(
        title="tracerank review",
        version="1",
        description="Runs of tracerank, finished and running: rankings, models, decisions.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=_problems(*([401] if token else []), 403, 405, 422),
    )
    access = Access(app, token)
    _add_errors(app)
    _add_interface(app, runs)
    _add_decisions(app, runs)
    _add_pages(app, runs, access)
    return access


def _add_errors(app: FastAPI) -> None:
    def answer(request: Request, status: int, error: Exception | str) -> Response:
        message = printable(" ".join(str(error).split()))
        if request.url.path.startswith("/api"):
            return JSONResponse({"detail": message}, status_code=status)
        return _page(pages.problem_page(message), status=status)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, 422, "; ".join(map(_in_words, error.errors())))

    async def missing(request: Request, error: Exception) -> Response:
        return answer(request, 404, error)

    async def changed(request: Request, error: Exception) -> Response:
        return answer(request, 409, error)

    async def refused(request: Request, error: Exception) -> Response:
        return answer(request, 422, error)

    async def trouble(request: Request, error: Exception) -> Response:
        return answer(request, 503 if isinstance(error, ConnectionError) else 500, error)

    async def failed(request: Request, error: Exception) -> Response:
        return answer(request, 500, f"the server failed at this: {type(error).__name__}: {error}")

    async def unanswered(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        found = answer(request, error.status_code, error.detail)
        if error.status_code == 405:
            found.headers["allow"] = ", ".join(sorted(_methods(app, request)))
        return found

    app.add_exception_handler(HTTPException, unanswered)
    app.add_exception_handler(RequestValidationError, invalid)
    for kind in TROUBLE:
        app.add_exception_handler(kind, trouble)
    for absent in (MissingError, FileNotFoundError):
        app.add_exception_handler(absent, missing)
    app.add_exception_handler(DecisionError, refused)
    app.add_exception_handler(DamagedError, trouble)
    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(ChangedRankingError, changed)


def _in_words(error: Mapping[str, Any]) -> str:
    place = ".".join(str(each) for each in error["loc"] if each != "body")
    empty = error.get("ctx", {}).get("pattern") == _SOMETHING
    return f"{place}: {'is empty' if empty else error['msg']}"


def _methods(app: FastAPI, request: Request) -> set[str]:
    """The methods that a path can be asked by, of which each may have a route of its own."""
    return {
        method
        for route in app.routes
        if isinstance(route, Route) and route.path_regex.match(request.url.path)
        for method in route.methods or ()
    }


def _tagged(told: Told, tag: str | None) -> Response:
    headers = {"etag": told.tag, "cache-control": "no-cache"}
    if _is_known(told.tag, tag):
        return Response(status_code=304, headers=headers)
    return Response(told.body, media_type="application/json", headers=headers)


def _unless_known(answer: Response, tag: str | None) -> Response:
    """The answer with a tag, or that the asker has it."""
    answer.headers["etag"] = own = tag_of(bytes(answer.body))
    return Response(status_code=304, headers={"etag": own}) if _is_known(own, tag) else answer


def _is_known(own: str, tag: str | None) -> bool:
    return tag is not None and own in (each.strip() for each in tag.split(","))


def _add_interface(app: FastAPI, runs: Runs) -> None:
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "as the asker has it"}}

    @app.get("/api/runs", response_model=list[Summary], responses=unchanged)
    def list_runs(
        find: Annotated[str, Query(description="Words that all must be found.")] = "",
        if_none_match: Tag = None,
    ) -> Response:
        """Every run of the folder: those that run first, then the last changed."""
        found = [each.to_json() for each in runs.summaries(find)]
        return _tagged(Told.of(found), if_none_match)

    @app.get("/api/runs/{run}", responses=_problems(404))
    def one_run(run: Run) -> Summary:
        """One run in a line."""
        return runs.summary(run)

    @app.get("/api/runs/{run}/live", responses=unchanged | _problems(404, 500, 503))
    async def live(run: Run, if_none_match: Tag = None) -> Response:
        """How far a sweep is: trials by state, the trainings under way with their curves, and
        which provisional ranking there is.
        """
        watched = runs.watched(run)
        told = watched.live.fresh
        if told is None:
            told = await run_in_threadpool(watched.live)
        return _tagged(told, if_none_match)

    @app.get("/api/runs/{run}/ranking", responses=_problems(404, 500))
    def ranking(run: Run) -> dict[str, Any]:
        """The ranking that was reported (``ranking.json``) and its ``fingerprint``."""
        found = decisions.read_ranking(runs.watched(run).run)
        return found | {"fingerprint": fingerprint(found)}

    @app.get("/api/runs/{run}/models/{model}", responses=_problems(404, 500, 503))
    def one_model(run: Run, model: Model) -> dict[str, Any]:
        """One model in depth, finished or under way: curves, layers, phases, what moved most."""
        found = runs.watched(run).details(model)
        if found is None:
            raise MissingError(f"nothing is stored of a model {model!r} in this run")
        return found

    @app.get("/api/compare", responses=_problems(404, 500, 503))
    def comparison(
        a: Annotated[str, Query(description="A run.", min_length=1)],
        b: Annotated[str, Query(description="Another one.", min_length=1)],
    ) -> Comparison:
        """Two sweeps side by side."""
        return _compared(runs, a, b)


def _compared(runs: Runs, a: str, b: str) -> Comparison:
    return compare(*(runs.watched(name).results() for name in (a, b)))


def _add_decisions(app: FastAPI, runs: Runs) -> None:
    @app.get("/api/runs/{run}/decisions", responses=_problems(404, 500))
    def list_decisions(run: Run) -> Decisions:
        """What was decided."""
        directory = runs.watched(run).run
        every = decisions.decisions(directory)
        try:
            stands = decisions.stands(directory)[1] if every else None
        except FileNotFoundError:
            stands = False
        return Decisions(decisions=every, stands=stands)

    @app.post(
        "/api/runs/{run}/decisions",
        status_code=201,
        responses=_problems(400, 404, 409, 411, 413, 500),
    )
    def decide(run: Run, choice: Choice) -> Decision:
        """Record a decision from the ranking as it was reported; 409 if that is not the one that
        the reviewer has seen, or the sweep is still going on.
        """
        watched = runs.watched(run)
        if watched.driven:
            raise ChangedRankingError("the sweep is still going on: its ranking is not final")
        return decisions.decide(
            watched.run, choice.model_id, choice.reviewer, choice.reason, choice.ranking
        )


def _page(text: str, policy: str = pages.POLICY, status: int = 200) -> HTMLResponse:
    headers = {"content-security-policy": policy, "cache-control": "no-cache"}
    return HTMLResponse(text, status, headers)


def _add_pages(app: FastAPI, runs: Runs, access: Access) -> None:
    @app.get("/", include_in_schema=False)
    def home(find: str = "", if_none_match: Tag = None) -> Response:
        found = [each.to_json() for each in runs.summaries(find)]
        answer = _page(pages.runs_page(found, find, runs.name))
        return _unless_known(answer, if_none_match)

    @app.get("/runs/{run}/", include_in_schema=False)
    def run_page(run: Run) -> HTMLResponse:
        place = f"/api{pages.run_path(run)}".rstrip("/")
        text, policy = runs.watched(run).page(place)
        return _page(text, f"{policy}; frame-ancestors 'none'")

    @app.get("/runs/{run}/{file}", include_in_schema=False)
    def run_file(run: Run, file: str) -> Response:
        kinds = {"ranking.json": "application/json", "ranking.csv": "text/csv"}
        kinds["ranking.parquet"] = "application/vnd.apache.parquet"
        if file not in kinds:
            raise MissingError(f"there is no {file!r} here")
        directory = runs.watched(run).run
        path = (directory.report / file).resolve()
        # A run directory may come from somebody else: no link in it leads to what isn't in it.
        if not path.is_relative_to(directory.path.resolve()) or not path.is_file():
            raise MissingError(f"there is no {file} in the report of this run")
        data = path.read_bytes()
        save = {"content-disposition": f'attachment; filename="{file}"'}
        return Response(data, media_type=kinds[file], headers=save)

    @app.get("/compare", include_in_schema=False)
    def compare_page(a: str, b: str) -> HTMLResponse:
        return _page(pages.compare_page((a, b), asdict(_compared(runs, a, b))))

    @app.get("/assets/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        if name not in pages.ASSETS:
            raise MissingError(f"there is no {name!r} here")
        data, kind = pages.asset(name)
        return Response(data, media_type=kind, headers={"cache-control": "no-cache"})

    @app.get("/login", include_in_schema=False)
    def login() -> HTMLResponse:
        return _page(pages.login_page(wrong=False))

    @app.post("/login", include_in_schema=False)
    async def sign_in(request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)
        form = parse_qs(body.decode("utf-8", "replace"))
        session = access.signed_in(form.get("token", [""])[0].strip())
        if session is None:
            return _page(pages.login_page(wrong=True), status=401)
        answer = RedirectResponse("/", status_code=303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, session, httponly=True, samesite="strict", secure=secure)
        return answer
