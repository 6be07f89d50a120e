"""What clients get back, in OpenAI's shapes."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from personaplug.core.types import Completion, TokenLogprob
from personaplug.serve.runtime.completion import Reply


def new_id(kind: str) -> str:
    """A response's id."""
    return f"{kind}-{uuid.uuid4().hex}"


def event(data: dict[str, Any] | str) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def usage(completions: Iterable[Completion], n: int) -> dict[str, int]:
    """Tokens read and written; a prompt of several answers is read once."""
    found = list(completions)
    read, written = sum(c.prompt_tokens for c in found[::n]), sum(len(c.tokens) for c in found)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def head(id_: str, kind: str, model: str) -> dict[str, Any]:
    """What every answer begins with."""
    return {"id": id_, "object": kind, "created": int(time.time()), "model": model}


# -- chats -------------------------------------------------------------------------------------------------------------


def chat_choice(index: int, reply: Reply, *, logprobs: bool) -> dict[str, Any]:
    """One finished answer."""
    return {
        "index": index,
        "message": {"role": "assistant", "content": reply.completion.text, "refusal": None},
        "logprobs": chat_logprobs(reply.logprobs) if logprobs else None,
        "finish_reason": reply.completion.finish_reason,
    }


def chat_delta(index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
    """What an answer has grown by."""
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def chat_logprobs(found: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Log-probabilities of tokens, as chats have them."""
    content = [
        {**_spelled(t.token, t.logprob), "top_logprobs": [_spelled(token, nats) for token, nats in t.top]}
        for t in found
    ]
    return {"content": content, "refusal": None}


def _spelled(token: str, nats: float) -> dict[str, Any]:
    return {"token": token, "logprob": _finite(nats), "bytes": list(token.encode())}


def _finite(nats: float) -> float:
    return max(nats, -9999.0)  # JSON has no infinity


# -- completions -------------------------------------------------------------------------------------------------------


def text_choice(
    index: int, text: str, logprobs: dict[str, Any] | None = None, finish: str | None = None
) -> dict[str, Any]:
    """One answer, or what it has grown by."""
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


def text_logprobs(found: Sequence[TokenLogprob], offset: int = 0) -> dict[str, Any]:
    """Log-probabilities of tokens, as completions have them; the first token begins at `offset`."""
    offsets = []
    for token in found:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [t.token for t in found],
        "token_logprobs": [_finite(t.logprob) for t in found],
        "top_logprobs": [{token: _finite(nats) for token, nats in t.top} for t in found],
        "text_offset": offsets,
    }
