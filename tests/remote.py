"""Servers that answer as others do: scripted ones, and one that takes prompt embeddings as vLLM's completions do."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import torch


@dataclass
class Reply:
    """What a server sends: JSON, chunks of a stream, or other text; `broken` ends a stream in its middle."""

    body: Any
    status: int = 200
    kind: str = "application/json"
    broken: bool = False


@dataclass
class Remotely:
    """A server that runs, and the bodies and headers that it was sent."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def scripted(answer: Callable[[str, dict[str, Any]], Reply]) -> Iterator[Remotely]:
    """A real HTTP server; `answer` is given each request's path and body."""
    seen = Remotely()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._reply(answer(self.path, {}))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.bodies.append(body)
            seen.headers.append({k.lower(): v for k, v in self.headers.items()})
            self._reply(answer(self.path, body))

        def _reply(self, reply: Reply):
            stream = isinstance(reply.body, list)
            data = "".join(f"data: {json.dumps(c)}\n\n" for c in reply.body) if stream else reply.body
            data = data if isinstance(data, str) else json.dumps(data)
            raw = (data + "data: [DONE]\n\n" * (stream and not reply.broken)).encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", "text/event-stream" if stream else reply.kind)
            self.send_header("Content-Length", str(len(raw) + reply.broken))  # of which one byte never comes
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(raw)
            self.close_connection = self.close_connection or reply.broken

        def log_message(self, *_: Any):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_KNOWN = {
    "model", "prompt", "max_tokens", "temperature", "top_p", "stop", "seed", "stream", "prompt_embeds", "cache_salt",
    "stop_token_ids", "top_k", "min_p", "repetition_penalty", "return_token_ids",
}  # fmt: skip


@contextmanager
def vllm_like(folder: Path, name: str, context: int = 256, dtype: torch.dtype = torch.float32) -> Iterator[Remotely]:
    """Serves a model's completions of token ids and of prompt embeddings, by transformers' own `generate`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    lock = Lock()

    def rows(body: dict[str, Any]) -> torch.Tensor:
        if "prompt_embeds" not in body:
            return model.get_input_embeddings()(torch.tensor(body["prompt"]))
        assert body["prompt"] is None  # vLLM takes "" for another prompt, and refuses it for being empty
        found = torch.load(io.BytesIO(base64.b64decode(body["prompt_embeds"], validate=True)), weights_only=True)
        assert found.dtype == torch.float16
        assert found.ndim == 2
        return found.to(dtype)

    @torch.inference_mode()
    def answer(path: str, body: dict[str, Any]) -> Reply:
        if path == "/v1/models":
            return Reply({"object": "list", "data": [{"id": name, "object": "model", "max_model_len": context}]})
        assert path == "/v1/completions"
        assert set(body) <= _KNOWN
        assert body["temperature"] == 0
        with lock:
            given = rows(body)[None]
            ids = model.generate(
                inputs_embeds=given, attention_mask=torch.ones(given.shape[:2], dtype=torch.long), do_sample=False,
                max_new_tokens=body["max_tokens"], eos_token_id=body["stop_token_ids"],
                pad_token_id=tokenizer.pad_token_id or 0,
            )[0].tolist()  # fmt: skip
        ended = ids[-1] in body["stop_token_ids"]
        text = tokenizer.decode(ids, skip_special_tokens=True)
        for stop in body.get("stop", []):
            text = text.split(stop)[0]
        choice = {"index": 0, "text": text, "finish_reason": "stop" if ended else "length", "logprobs": None}
        if body.get("return_token_ids"):
            choice["token_ids"] = ids
        head = {"id": "cmpl", "object": "text_completion", "created": 0, "model": name}
        if body.get("stream"):
            parts = [text[i : i + 3] for i in range(0, len(text), 3)]
            choice = {k: v for k, v in choice.items() if k != "token_ids"}
            growing = [{**head, "choices": [{**choice, "text": p, "finish_reason": None}]} for p in parts]
            if body.get("return_token_ids"):
                choice["token_ids"] = ids  # a server spreads them over the chunks
            return Reply([*growing, {**head, "choices": [{**choice, "text": ""}]}])
        return Reply({**head, "choices": [choice]})

    with scripted(answer) as seen:
        yield seen
