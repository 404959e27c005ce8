"""Clients to copy: the same question to a server with curl and with the OpenAI Python client.

The key is read from the environment, so that it stands in no script. Knows nothing of servers.
"""

from __future__ import annotations

import json
import shlex

from core.evaluation.metrics.generation import has_han
from core.serving.keys import VARIABLE

EXAMPLES = {
    "zh": "张三于2021年3月5日与北京华信科技有限公司签订劳动合同。",
    "en": "On 5 March 2021 Anna Berg signed a contract of employment with Northwind Ltd in Bergen.",
}


def example(language: str, instruction: str = "") -> str:
    """A text to ask with, in a template's language; where it has none, in that of the instruction."""
    return EXAMPLES.get(language) or EXAMPLES["zh" if has_han(instruction) else "en"]


def curl(url: str, model: str, instruction: str, text: str) -> str:
    """A question with curl."""
    body = json.dumps({"model": model, "messages": _messages(instruction, text)}, ensure_ascii=False)
    return (
        f"curl {shlex.quote(f'{url}/chat/completions')} \\\n"
        f'  -H "Authorization: Bearer ${VARIABLE}" \\\n'
        f"  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(body)}"
    )


def python(url: str, model: str, instruction: str, text: str) -> str:
    """The same with ``pip install openai``, streamed."""
    messages = ",\n        ".join(json.dumps(m, ensure_ascii=False) for m in _messages(instruction, text))
    return f"""import os

from openai import OpenAI

client = OpenAI(base_url={json.dumps(url)}, api_key=os.environ["{VARIABLE}"])
stream = client.chat.completions.create(
    model={json.dumps(model, ensure_ascii=False)},
    messages=[
        {messages},
    ],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
"""


def _messages(instruction: str, text: str) -> list[dict[str, str]]:
    system = [{"role": "system", "content": instruction}] if instruction else []
    return [*system, {"role": "user", "content": text}]
