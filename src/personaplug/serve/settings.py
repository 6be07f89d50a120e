"""A server's settings: its limits, and who needs a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of a server.

    Attributes:
        open_locally: nobody needs a key as long as none was ever made; only where loopback alone is served.
        rate: requests a second of a key, unless it has its own; 0 is no limit.
        user_rate: requests a second for one user; 0 is no limit.
        burst: seconds' worth of either rate that may come at once.
        body_bytes: of a request.
        history_bytes: of a request that adds behaviours.
        body_seconds: for a request's body to arrive.
        request_seconds: for an answer to be finished.
        in_flight: requests served at once.
        max_tokens: of an answer.
        max_choices: answers to one request (`n`, times the prompts).
        max_running: answers decoded together.
        max_batch_tokens: that these may hold, their number times the longest; 0 is no limit.
        max_waiting: answers that may wait beside these.
        threads: for what would block: the store, preparing users, personas.
        prompt_cache: bytes of prompts' states that a backbone keeps (training keeps far more).
        prompt_ids_cache: tokenized conversations that it keeps.
        openvino: run sentence encoders in OpenVINO: the same vectors, up to twice as fast on a CPU; None: where it is
            installed and they would run on a CPU.
        backbone: a `[backbone]` section in place of the artifacts' own, for a model that runs elsewhere; its `model` is
            the artifact's where none is given.
    """

    open_locally: bool = False
    rate: float = 20.0
    user_rate: float = 10.0
    burst: float = 5.0
    body_bytes: int = 2_000_000
    history_bytes: int = 32_000_000
    body_seconds: float = 30.0
    request_seconds: float = 120.0
    in_flight: int = 512
    max_tokens: int = 4096
    max_choices: int = 16
    max_running: int = 16
    max_batch_tokens: int = 65_536
    max_waiting: int = 256
    threads: int = 8
    prompt_cache: int = 256 << 20
    prompt_ids_cache: int = 1000
    openvino: bool | None = None
    backbone: Mapping[str, Any] = field(default_factory=dict)
