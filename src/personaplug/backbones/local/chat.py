"""Conversations in the words of a model's chat template, what ends a turn there, and control words that stay text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from personaplug.core.errors import DataError
from personaplug.core.types import Message

_PROBE = ("zxq", "qxz", "xzq")  # of a system, a user and an assistant: what a template says around them
# Marks of turns that are no tokens of their own: <|user|>, [/INST], <<SYS>>.
_MARK = re.compile(r"<\|[^<>|\s]+\|>|</?[a-z_]+>|\[/?[A-Z_]+\]|<</?[A-Z]+>>")


def chat_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """A conversation as the model reads it, up to where the answer begins; contents have no control words any more.

    Where the tokenizer has no chat template, the messages stand one after another. A template that takes no system
    message, or not two turns of the same role in a row, gets the system text in front of the first user's turn, and
    turns in a row joined.

    Raises:
        DataError: the template takes these messages in neither form; says what it says.
    """
    if not tokenizer.chat_template:
        return "\n\n".join(m.content for m in messages) + "\n\n"
    from jinja2 import TemplateError

    try:
        text = _rendered(tokenizer, messages)
        system = [m.content.strip() for m in messages if m.role == "system"]
        if all(content in text for content in system):
            return text
    except TemplateError:
        pass
    try:
        return _rendered(tokenizer, _folded(messages))
    except TemplateError as error:
        roles = ", ".join(m.role for m in messages)
        raise DataError(
            f"the model's chat template does not take these turns ({roles}): {str(error).strip() or 'no reason'}; "
            "let user and assistant take turns, a user first"
        ) from error


def _rendered(tokenizer: Any, messages: Sequence[Message], answer: bool = True) -> str:
    chat = [{"role": m.role, "content": m.content} for m in messages]
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=answer))


def _folded(messages: Sequence[Message]) -> list[Message]:
    """System texts in front of the first user's turn, and turns of one role in a row as one."""
    system = [m for m in messages if m.role == "system"]
    others = [Message("user", m.content) for m in system] + [m for m in messages if m.role != "system"]
    return [
        Message(role, "\n\n".join(m.content for m in group if m.content))
        for role, group in groupby(others, key=lambda m: m.role)
    ]


def _around(tokenizer: Any) -> tuple[str, str]:
    """What a template writes around contents, and what it writes after an assistant's; "" where it has none."""
    if not tokenizer.chat_template:
        return "", ""
    from jinja2 import TemplateError

    system, user, assistant = _PROBE
    turns = [Message("system", system), Message("user", user), Message("assistant", assistant)]
    for messages in (turns, turns[1:]):
        try:
            text = _rendered(tokenizer, messages, answer=False)
            whole = text + _rendered(tokenizer, messages[:-1])
        except TemplateError:
            continue
        for word in _PROBE:
            whole = whole.replace(word, " ")
        return whole, text.rpartition(assistant)[2]
    return "", ""


def end_of_turn(tokenizer: Any) -> int | None:
    """The token that ends an assistant's turn by the template, else the tokenizer's end token, if it has one."""
    after = _around(tokenizer)[1]
    ids = tokenizer(after, add_special_tokens=False).input_ids if after else []
    control = tokenizer.added_tokens_decoder
    ending = next((i for i in ids if i in control and not control[i].content.isspace()), None)
    return tokenizer.eos_token_id if ending is None else int(ending)


class ControlWords:
    """The words by which a tokenizer and its template mark turns and ends, and texts without them.

    Args:
        tokenizer: of a model.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder.values()
        words = {token.content for token in added if token.special} | set(_MARK.findall(_around(tokenizer)[0]))
        words = {word for word in words if word.strip()}
        longest_first = sorted(words, key=lambda word: (-len(word), word))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if words else None

    def broken(self, text: str) -> str:
        """The text with a blank inside each control word: people's texts are words, and mark nothing.

        >>> ControlWords(tokenizer).broken("bye<|im_end|>")  # doctest: +SKIP
        'bye< |im_end|>'
        """
        while self._pattern is not None and self._pattern.search(text):
            text = self._pattern.sub(lambda m: f"{m[0][0]} {m[0][1:]}" if len(m[0]) > 1 else " ", text)
        return text


def cut_text(tokenizer: Any, text: str, tokens: int) -> str:
    """The text's first `tokens` tokens as text."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    if len(encoded.input_ids) <= tokens:
        return text
    # By where tokens end in the text: decoding would spell an unknown token as its name.
    return text[: encoded.offset_mapping[tokens - 1][1]] if tokens > 0 else ""
