"""The routes that OpenAI's clients know: chats, completions, models, embeddings."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from personaplug.core.errors import did_you_mean
from personaplug.core.types import Completion, Message, Sampling, TextDelta
from personaplug.serve.openai.errors import Refusal, refusal_of
from personaplug.serve.openai.responses import (
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
from personaplug.serve.openai.schemas import ChatBody, CompletionBody, EmbeddingBody, Extension, Generation
from personaplug.serve.runtime.completion import Asked, Run
from personaplug.serve.runtime.service import Served
from personaplug.serve.security.context import Access, Let

router = APIRouter(prefix="/v1", tags=["answers"])

T = TypeVar("T")
Grown = Callable[[int, TextDelta | Completion], dict[str, Any]]


@router.post("/chat/completions", response_model=None)
async def chat(body: ChatBody, access: Let, request: Request) -> Response:
    """Answer a conversation as a user: the one that the key or the body names."""
    model = access.service.model(body.model)
    limit = body.max_completion_tokens or body.max_tokens
    asked = _asked(access, model, body, [tuple(m.message() for m in body.messages)], limit)
    run = await _begun(access, model, replace(asked, top=body.top))
    id_, logprobs = new_id("chatcmpl"), body.top is not None

    def grown(index: int, what: TextDelta | Completion) -> dict[str, Any]:
        if isinstance(what, Completion):
            return chat_delta(index, {}, finish=what.finish_reason)
        return chat_delta(index, {"content": what.text}, chat_logprobs(what.logprobs) if logprobs else None)

    if body.stream:
        first = [chat_delta(i, {"role": "assistant", "content": "", "refusal": None}) for i in range(run.count)]
        return _streamed(run, body, head(id_, "chat.completion.chunk", model.id), grown, first)
    replies = await _waited(request, run, run.replies())
    return JSONResponse(
        {
            **head(id_, "chat.completion", model.id),
            "choices": [chat_choice(i, reply, logprobs=logprobs) for i, reply in enumerate(replies)],
            "usage": usage((r.completion for r in replies), asked.n),
            "personaplug": await run.block(),
        }
    )


@router.post("/completions", response_model=None)
async def completions(body: CompletionBody, access: Let, request: Request) -> Response:
    """Answer prompts as a user; each is read as one message of theirs."""
    model = access.service.model(body.model)
    conversations = [(Message("user", prompt),) for prompt in body.prompts]
    asked = replace(_asked(access, model, body, conversations, body.max_tokens), top=body.logprobs)
    run = await _begun(access, model, asked)
    id_, logprobs = new_id("cmpl"), body.logprobs is not None
    said = [prompt if body.echo else "" for prompt in body.prompts for _ in range(asked.n)]
    offsets = [len(text) for text in said]

    def grown(index: int, what: TextDelta | Completion) -> dict[str, Any]:
        if isinstance(what, Completion):
            return text_choice(index, "", finish=what.finish_reason)
        start = offsets[index]
        offsets[index] += len(what.text)
        return text_choice(index, what.text, text_logprobs(what.logprobs, start) if logprobs else None)

    if body.stream:
        first = [text_choice(i, text) for i, text in enumerate(said) if text]
        return _streamed(run, body, head(id_, "text_completion", model.id), grown, first)
    replies = await _waited(request, run, run.replies())
    choices = [
        text_choice(
            i,
            said[i] + reply.completion.text,
            text_logprobs(reply.logprobs, offsets[i]) if logprobs else None,
            reply.completion.finish_reason,
        )
        for i, reply in enumerate(replies)
    ]
    return JSONResponse(
        {
            **head(id_, "text_completion", model.id),
            "choices": choices,
            "usage": usage((r.completion for r in replies), asked.n),
            "personaplug": await run.block(),
        }
    )


@router.get("/models")
async def models(access: Let) -> dict[str, Any]:
    """Every method on every backbone, and the encoders."""
    access.acting("read", {})
    return {"object": "list", "data": _models(access)}


@router.get("/models/{model}")
async def one_model(model: str, access: Let) -> dict[str, Any]:
    """One of them."""
    access.acting("read", {})
    found = {m["id"]: m for m in _models(access)}
    if model not in found:
        raise Refusal(404, f"model {model!r} is not served; {did_you_mean(model, found)}", code="model_not_found")
    return found[model]


@router.post("/embeddings")
async def embeddings(body: EmbeddingBody, access: Let) -> dict[str, Any]:
    """Vectors of texts, by the encoder that a method looks at histories with; nobody's history is touched."""
    access.acting("read", {"user": body.user})
    service = access.service
    if body.model not in service.encoders:
        end = did_you_mean(body.model, service.encoders)
        raise Refusal(404, f"no encoder {body.model!r} is served; {end}", param="model", code="model_not_found")
    vectors = service.encoders[body.model]
    if body.dimensions not in (None, vectors.width):
        raise Refusal(
            400, f"dimensions is {body.dimensions}: {body.model} has {vectors.width}; leave it out", param="dimensions"
        )
    found = await service.off(vectors.encode, body.texts)
    tokens = sum(len(text.split()) for text in body.texts)
    return {
        "object": "list",
        "model": body.model,
        "data": [
            {"object": "embedding", "index": i, "embedding": _written(vector, body.encoding_format)}
            for i, vector in enumerate(found)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _written(vector: Any, form: str | None) -> str | list[float]:
    if form == "base64":
        return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
    return [float(x) for x in vector]


def _models(access: Access) -> list[dict[str, Any]]:
    served = [
        {
            "id": m.id,
            "object": "model",
            "created": m.created,
            "owned_by": "personaplug",
            "personaplug": {
                "method": m.personalizer.method.name,
                "personal": m.personalizer.method.personal,
                "task": m.personalizer.task.name,
                "options": list(m.personalizer.task.options),
                "encoder": m.encoder or None,
            },
        }
        for m in access.service.models.values()
    ]
    encoders = [
        {"id": id_, "object": "model", "created": 0, "owned_by": "personaplug", "personaplug": {"width": v.width}}
        for id_, v in access.service.encoders.items()
    ]
    return served + encoders


def _asked(
    access: Access, model: Served, body: Generation, conversations: Sequence[tuple[Message, ...]], limit: int | None
) -> Asked:
    """What a body asks for; what it leaves out stands as the method was trained with."""
    settings, base = access.service.settings, model.personalizer.task.sampling
    n = body.n or 1
    if n * len(conversations) > settings.answers:
        raise Refusal(
            400, f"n is {n}: at most {settings.answers} answers to a request, all prompts together", param="n"
        )
    if limit is not None and limit > settings.max_tokens:
        raise Refusal(
            400, f"max_tokens is {limit}: at most {settings.max_tokens} here; ask for fewer", param="max_tokens"
        )
    user = access.acting("read", body.claims)
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
    pieces = bool(body.stream)
    return Asked(user, access.stored(user), tuple(conversations), sampling, n, pieces=pieces, behaviors=own.behaviors)


async def _begun(access: Access, model: Served, asked: Asked) -> Run:
    if asked.top is not None and not model.gives_logprobs:
        message = f"logprobs: {model.id!r} gives none; leave logprobs out"
        raise Refusal(400, message, param="logprobs", code="unsupported_parameter")
    run = Run(access.service, model, asked, access.arrived)
    access.request.state.stages = run.stages  # what the metrics are told when all is sent
    await run.begin()
    return run


async def _waited(request: Request, run: Run, work: Coroutine[Any, Any, T]) -> T:
    """Wait for an answer as long as the client does."""
    waiting, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise Refusal(499, "the client has gone")  # nobody reads it; the log does
        return waiting.result()
    finally:
        gone.cancel()
        if not waiting.done() or waiting.cancelled() or waiting.exception():
            waiting.cancel()
            run.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _streamed(
    run: Run, body: Generation, begin: dict[str, Any], grown: Grown, first: list[dict[str, Any]]
) -> StreamingResponse:
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    common = {**begin, "usage": None} if with_usage else begin

    async def lines() -> AsyncIterator[bytes]:
        ended: dict[int, Completion] = {}
        try:
            for choice in first:
                yield event({**common, "choices": [choice]})
            async for index, what in run.events():
                chunk = {**common, "choices": [grown(index, what)]}
                if isinstance(what, Completion):
                    ended[index] = what
                    if len(ended) == run.count:
                        chunk["personaplug"] = await run.block()
                yield event(chunk)
            if with_usage:
                found = [ended[i] for i in sorted(ended)]
                yield event({**begin, "choices": [], "usage": usage(found, run.asked.n)})
            yield event("[DONE]")
        except Exception as error:  # noqa: BLE001 - the status is sent already: whatever it is, it is the asker's to know
            yield event(refusal_of(error).body())
        finally:
            run.cancel()

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
