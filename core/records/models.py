"""Records of templates, models, endpoints, and how an answer is generated."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from core.records.base import Quantisation, Record, Stored


class Template(Stored):
    """How a row becomes a prompt and an answer. Immutable once used; a change is a new version.

    ``system``, ``user`` and ``answer`` are Jinja texts. ``chat``: the tokenizer's own chat
    template is put around them; ``raw``: they are concatenated as they are.
    """

    name: str
    version: int = 1
    kind: Literal["chat", "raw"] = "chat"
    system: str = ""
    user: str = "{{ instruction }}\n{{ input }}"
    answer: str = "{{ output }}"
    stop: tuple[str, ...] = ()
    enable_thinking: bool | None = None
    language: str = ""
    description: str = ""

    @property
    def ref(self) -> str:
        """``name@version``, as it is written in specs and signatures."""
        return f"{self.name}@{self.version}"


_SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


class ModelRef(Record):
    """A model: where it comes from and how it is loaded."""

    source: Literal["hub", "modelscope", "path", "default", "endpoint"] = "default"
    name: str = "SmolLM2-135M-Instruct"
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantisation: Quantisation = "none"

    @property
    def number_format(self) -> str:
        """How its numbers are kept, where that was chosen: ``nf4``, ``int8``, ``bf16``, ``nf4, fp32``; else empty."""
        chosen = (self.quantisation.replace("none", ""), _SHORT.get(self.dtype, ""))
        return ", ".join(part for part in chosen if part)

    @property
    def label(self) -> str:
        """A short name for tables and charts, with the number format where it isn't the default one."""
        short = self.name.rstrip("/").rsplit("/", 1)[-1]
        return f"{short} ({self.number_format})" if self.number_format else short


class NamedEndpoint(Stored):
    """A model behind an address that speaks the OpenAI chat protocol; a ModelRef's ``name`` with source ``endpoint``.

    ``key_variable`` names the environment variable (or Streamlit secret) that holds the key. Prices are of a million tokens.
    """

    name: str
    url: str
    model: str
    key_variable: str = "TUNEWISE_ENDPOINT_KEY"
    price_in: float | None = Field(default=None, ge=0)
    price_out: float | None = Field(default=None, ge=0)


class GenerationSettings(Record):
    """How an answer is generated. ``temperature`` 0 is greedy."""

    max_new_tokens: int = Field(default=128, ge=1, le=32768)
    temperature: float = Field(default=0.0, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    repetition_penalty: float = Field(default=1.0, gt=0, le=5)
    seed: int = 0
    stop: tuple[str, ...] = ()
