"""The routes of answers: OpenAI's chats and completions, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from personaplug.core.types import Completion, Message, Sampling, TextDelta
from personaplug.serve.openai.errors import ApiError, to_api_error
from personaplug.serve.openai.schemas import (
    ChatBody,
    CompletionBody,
    Extension,
    Generation,
    chat_choice,
    chat_delta,
    chat_logprobs,
    event,
    head,
    new_id,
    text_choice,
    text_logprobs,
    usage,
)
from personaplug.serve.runtime.completion import CompletionRun, GenerationParams
from personaplug.serve.runtime.service import Served
from personaplug.serve.security.access import Access, CurrentAccess

router = APIRouter(prefix="/v1", tags=["answers"])

T = TypeVar("T")
Chunk = Callable[[int, TextDelta | Completion], dict[str, Any]]


@router.post("/chat/completions", response_model=None)
async def chat(body: ChatBody, access: CurrentAccess, request: Request) -> Response:
    """Answer a conversation as a user: the one that the key or the body names."""
    model = access.service.model(body.model)
    limit = body.max_completion_tokens or body.max_tokens
    params = _params(access, model, body, [tuple(m.message() for m in body.messages)], limit)
    run = await _begin(access, model, replace(params, top_logprobs=body.top))
    id_, logprobs = new_id("chatcmpl"), body.top is not None

    def chunk(index: int, part: TextDelta | Completion) -> dict[str, Any]:
        if isinstance(part, Completion):
            return chat_delta(index, {}, finish=part.finish_reason)
        return chat_delta(index, {"content": part.text}, chat_logprobs(part.logprobs) if logprobs else None)

    if body.stream:
        first = [chat_delta(i, {"role": "assistant", "content": "", "refusal": None}) for i in range(run.count)]
        return _streamed(run, body, head(id_, "chat.completion.chunk", model.id), chunk, first)
    results = await _while_connected(request, run, run.results())
    return JSONResponse(
        {
            **head(id_, "chat.completion", model.id),
            "choices": [chat_choice(i, *result, logprobs=logprobs) for i, result in enumerate(results)],
            "usage": usage((completion for completion, _ in results), params.n),
            "personaplug": await run.metadata(),
        }
    )


@router.post("/completions", response_model=None)
async def completions(body: CompletionBody, access: CurrentAccess, request: Request) -> Response:
    """Answer prompts as a user; each is read as one message of theirs."""
    model = access.service.model(body.model)
    conversations = [(Message("user", prompt),) for prompt in body.prompts]
    params = replace(_params(access, model, body, conversations, body.max_tokens), top_logprobs=body.logprobs)
    run = await _begin(access, model, params)
    id_, logprobs = new_id("cmpl"), body.logprobs is not None
    echoed = [prompt if body.echo else "" for prompt in body.prompts for _ in range(params.n)]
    offsets = [len(text) for text in echoed]

    def chunk(index: int, part: TextDelta | Completion) -> dict[str, Any]:
        if isinstance(part, Completion):
            return text_choice(index, "", finish=part.finish_reason)
        start = offsets[index]
        offsets[index] += len(part.text)
        return text_choice(index, part.text, text_logprobs(part.logprobs, start) if logprobs else None)

    if body.stream:
        first = [text_choice(i, text) for i, text in enumerate(echoed) if text]
        return _streamed(run, body, head(id_, "text_completion", model.id), chunk, first)
    results = await _while_connected(request, run, run.results())
    choices = [
        text_choice(
            i,
            echoed[i] + completion.text,
            text_logprobs(tokens, offsets[i]) if logprobs else None,
            completion.finish_reason,
        )
        for i, (completion, tokens) in enumerate(results)
    ]
    return JSONResponse(
        {
            **head(id_, "text_completion", model.id),
            "choices": choices,
            "usage": usage((completion for completion, _ in results), params.n),
            "personaplug": await run.metadata(),
        }
    )


def _params(
    access: Access, model: Served, body: Generation, conversations: Sequence[tuple[Message, ...]], limit: int | None
) -> GenerationParams:
    """What a body asks for; what it leaves out is decoded as the method was trained with."""
    settings, base = access.service.settings, model.personalizer.task.sampling
    n = body.n or 1
    if n * len(conversations) > settings.max_choices:
        raise ApiError(
            400, f"n is {n}: at most {settings.max_choices} answers to a request, all prompts together", param="n"
        )
    if limit is not None and limit > settings.max_tokens:
        raise ApiError(
            400, f"max_tokens is {limit}: at most {settings.max_tokens} here; ask for fewer", param="max_tokens"
        )
    user = access.authorize("read", body.claims)
    own = body.personaplug or Extension.model_validate({})
    sampling = Sampling(
        max_tokens=min(base.max_tokens, settings.max_tokens) if limit is None else limit,
        temperature=base.temperature if body.temperature is None else body.temperature,
        top_p=base.top_p if body.top_p is None else body.top_p,
        stop=base.stop if body.stops is None else body.stops,
        seed=base.seed if body.seed is None else body.seed,
        strength=base.strength if own.strength is None else own.strength,
        no_repeat_ngram=base.no_repeat_ngram if own.no_repeat_ngram is None else own.no_repeat_ngram,
        repetition_penalty=base.repetition_penalty,
    )
    model.personalizer.backbone.check_sampling(sampling)
    return GenerationParams(
        user, access.stored(user), tuple(conversations), sampling, n, stream=bool(body.stream), behaviors=own.behaviors
    )


async def _begin(access: Access, model: Served, params: GenerationParams) -> CompletionRun:
    if params.top_logprobs is not None and not model.gives_logprobs:
        message = f"logprobs: {model.id!r} gives none; leave logprobs out"
        raise ApiError(400, message, param="logprobs", code="unsupported_parameter")
    run = CompletionRun(access.service, model, params, access.arrived)
    access.request.state.stages = run.stages  # for the metrics, when all is sent
    await run.begin()
    return run


async def _while_connected(request: Request, run: CompletionRun, work: Coroutine[Any, Any, T]) -> T:
    """Wait for an answer as long as the client does."""
    answer, disconnect = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({answer, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ApiError(499, "the client has gone")  # nobody reads it; the log does
        return answer.result()
    finally:
        disconnect.cancel()
        if not answer.done() or answer.cancelled() or answer.exception():
            answer.cancel()
            run.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _streamed(
    run: CompletionRun, body: Generation, begin: dict[str, Any], chunk: Chunk, first: list[dict[str, Any]]
) -> StreamingResponse:
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    common = {**begin, "usage": None} if with_usage else begin

    async def lines() -> AsyncIterator[bytes]:
        ended: dict[int, Completion] = {}
        try:
            for choice in first:
                yield event({**common, "choices": [choice]})
            async for index, part in run.events():
                data = {**common, "choices": [chunk(index, part)]}
                if isinstance(part, Completion):
                    ended[index] = part
                    if len(ended) == run.count:
                        data["personaplug"] = await run.metadata()
                yield event(data)
            if with_usage:
                completions = [ended[i] for i in sorted(ended)]
                yield event({**begin, "choices": [], "usage": usage(completions, run.params.n)})
            yield event("[DONE]")
        except Exception as error:  # noqa: BLE001 - the status is sent already: reported to the caller in the stream
            yield event(to_api_error(error).body())
        finally:
            run.cancel()

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
