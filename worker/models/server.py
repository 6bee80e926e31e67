"""The server of a model, as one event loop reaches it.

The `openai` package gives the address, the headers with the key, and the errors. A request goes to its HTTP client
directly: the package's own way from a request to a stream takes more processor time than all the rest of a reply. The
bytes are carried by aiohttp, through the package's client for it (`openai[aiohttp]`).
"""

import asyncio
import json
import weakref
from collections.abc import Mapping
from typing import Any

import httpx2
import openai

from worker.models import connection, documents

_servers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str | None, str | None], "ModelServer"]]
_servers = weakref.WeakKeyDictionary()


class ModelServer:
    """One address with one key. `address` and `key` are what the settings or the model name."""

    def __init__(self, api_key: str | None, base_url: str | None) -> None:
        """Make the HTTP client, without a connection.

        Raises:
            openai.OpenAIError: there is no key.
        """
        client = connection.make_async_client(api_key, base_url)
        self.address = str(client.base_url)
        self.key = client.api_key
        self._http = client._client
        self._url = client.base_url.copy_with(raw_path=client.base_url.raw_path.rstrip(b"/") + b"/chat/completions")
        named = {**client.default_headers, **client.auth_headers}
        self._headers = {name.lower(): value for name, value in named.items() if isinstance(value, str)}

    async def post(
        self, body: dict[str, Any], *, headers: Mapping[str, str], query: Mapping[str, Any], silence_s: float
    ) -> httpx2.Response:
        """Send *body*, and return the response when its headers have come. It has to be closed.

        Raises:
            openai.APIStatusError: the server refused; its body was read.
            openai.APIConnectionError, openai.APITimeoutError
            UnicodeEncodeError: the key, or a text in the body, cannot be sent.
        """
        connect_s = min(10.0, silence_s)
        request = httpx2.Request(
            "POST",
            self._url.copy_merge_params(query) if query else self._url,
            headers={**self._headers, **{name.lower(): value for name, value in headers.items()}},
            content=json.dumps(body, ensure_ascii=False, allow_nan=False).encode(),
            extensions={"timeout": {"connect": connect_s, "read": silence_s, "write": silence_s, "pool": silence_s}},
        )
        try:
            async with asyncio.timeout(silence_s + connect_s):  # for all headers, and for the body of an error
                response = await self._http.send(request, stream=True)
                if not response.is_error:
                    return response
                try:
                    await response.aread()
                finally:
                    await response.aclose()
        except Exception as error:
            raise documents.lost(error, request) from error
        raise openai.APIStatusError(str(response.status_code), response=response, body=None)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


def of(api_key: str | None, base_url: str | None) -> ModelServer:
    """Return the server for the running event loop. None: the key, or the address, of the settings."""
    servers = _servers.setdefault(asyncio.get_running_loop(), {})
    key = (base_url, api_key)
    if key not in servers:
        servers[key] = ModelServer(api_key, base_url)
    return servers[key]


async def close_all() -> None:
    """Close the connections of the running event loop."""
    for server in _servers.pop(asyncio.get_running_loop(), {}).values():
        await server.close()
