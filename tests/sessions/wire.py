"""A browser session without a browser: Streamlit's own messages over its websocket, as the client sends them.

Lighter than a tab, so that many fit beside the model on two cores. Knows of a page only its chat input and number fields.
"""

from __future__ import annotations

import html
import re
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

_DONE, _SCRIPT_FAULT = 0, 1
_LABEL = re.compile(r'<span class="tw-label">.*?</span>')
_TAG = re.compile(r"<[^>]+>")


def text_of(marked: str) -> str:
    """A marked text without its labels and tags."""
    return html.unescape(_TAG.sub("", _LABEL.sub("", marked)))


class Session:
    """One session of a running app, on one page."""

    def __init__(self, url: str, page: str, query: str = "") -> None:
        self.page, self.query = page, query
        self.faults: list[str] = []
        self.texts: list[str] = []
        self.first_text = 0.0
        self._chat = self._hash = ""
        self._numbers: dict[str, str] = {}
        self._values: dict[str, int] = {}
        self._done = threading.Event()
        address = f"ws://{urlsplit(url).netloc}/_stcore/stream"
        self._socket: ClientConnection = connect(address, subprotocols=["streamlit"], max_size=None, ping_interval=None)  # type: ignore[list-item]
        threading.Thread(target=self._listen, daemon=True).start()
        self._send()
        self.wait()

    def set_number(self, label: str, value: int) -> None:
        """Type into a number field; taken with the next question."""
        self._values[self._numbers[label]] = value

    def ask(self, text: str) -> None:
        """Send a question and return at once."""
        self.texts.clear()
        self.first_text = 0.0
        self._send(text)

    def wait(self, timeout: float = 600.0) -> None:
        """Until the page has come to rest."""
        assert self._done.wait(timeout), f"the page didn't come to rest in {timeout} s"

    @property
    def shown(self) -> str:
        """All marked texts that came since the last question, without labels and tags."""
        return "\n".join(self.texts)

    def close(self) -> None:
        """Close the tab."""
        self._socket.close()

    def _send(self, text: str | None = None) -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_script_hash, state.page_name = self.query, self._hash, "" if self._hash else self.page
        for widget, value in self._values.items():
            state.widget_states.widgets.add(id=widget, int_value=value)
        if text is not None:
            state.widget_states.widgets.add(id=self._chat).chat_input_value.data = text
        self._done.clear()
        self._socket.send(message.SerializeToString())

    def _listen(self) -> None:
        with suppress(ConnectionClosed):
            for raw in self._socket:
                message = ForwardMsg()
                message.ParseFromString(raw if isinstance(raw, bytes) else raw.encode())
                self._take(message)

    def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self._hash = message.new_session.page_script_hash
        elif kind == "navigation":  # the page that Home.py turned to
            self._hash = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "script_finished":
            if message.script_finished == _SCRIPT_FAULT:
                self.faults.append("the script can't be compiled")
            if message.script_finished in (_DONE, _SCRIPT_FAULT):
                self._done.set()
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            self._element(message.delta.new_element)

    def _element(self, element: object) -> None:
        kind = element.WhichOneof("type")  # type: ignore[attr-defined]
        body = getattr(element, kind, None)
        if kind == "exception":
            self.faults.append(body.message)  # type: ignore[union-attr]
        elif kind == "alert" and "error" in str(body.icon):  # type: ignore[union-attr]
            self.faults.append(body.body)  # type: ignore[union-attr]
        elif kind == "chat_input":
            self._chat = body.id  # type: ignore[union-attr]
        elif kind == "number_input":
            self._numbers[body.label] = body.id  # type: ignore[union-attr]
        elif kind == "html" and body.body.startswith('<div class="tw-text'):  # type: ignore[union-attr]
            self.first_text = self.first_text or time.monotonic()
            self.texts.append(text_of(body.body))  # type: ignore[union-attr]
