"""Lua scripts: read from the package, checked against their headers, called by their hash.

A script's first lines say its verb and version, which fragments go before it, its keys and its
arguments. A call that does not fit them fails here, where its place can be seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis import Redis

_VERB = re.compile(r"-- (?P<verb>[a-z_]+) v(?P<version>\d+): ")
_USES = re.compile(r"^-- Uses: (.+)$", re.MULTILINE)
_KEY = re.compile(r"^-- KEYS\[(\d+)(\.\.)?\]", re.MULTILINE)
_ARGUMENT = re.compile(r"\bARGV\[(\d+)\] (?=\S)")


class Script:
    """One verb, with all that it needs in one text.

    Args:
        verb: Name of its file in `lua/`.

    Attributes:
        name: Verb and version, e.g. "exchange v1".
    """

    def __init__(self, verb: str) -> None:
        text = _read(verb)
        head = _VERB.match(text)
        if head is None or head["verb"] != verb:
            raise ValueError(f'lua/{verb}.lua must begin with "-- {verb} v1: " and what it does')
        uses = _USES.search(text)
        fragments = [_read(name) for name in uses[1].split()] if uses else []
        keys = _KEY.findall(text)
        header = text[: text.index("\nlocal ")]
        self.name = f"{verb} v{head['version']}"
        self._text = "\n".join([*fragments, text])
        self._keys = len(keys)
        self._takes_more_keys = any(more for _, more in keys)
        self._arguments = len(set(_ARGUMENT.findall(header)))
        self._hash = ""

    def __call__(self, client: Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run it, loading it first where the server does not know it.

        Raises:
            ValueError: the keys or arguments are not what its header declares.
            redis.RedisError: the server could not be reached, or refused.
        """
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - only where Redis is used

        least = self._keys - self._takes_more_keys
        if len(keys) < least or (len(keys) > least and not self._takes_more_keys):
            raise ValueError(f"{self.name} takes {least} keys, not {len(keys)}")
        if len(arguments) != self._arguments:
            raise ValueError(f"{self.name} takes {self._arguments} arguments, not {len(arguments)}")
        if not self._hash:
            self._hash = client.script_load(self._text)
        try:
            return client.evalsha(self._hash, len(keys), *keys, *arguments)
        except NoScriptError:  # the server was restarted, or told to forget
            client.script_load(self._text)
            return client.evalsha(self._hash, len(keys), *keys, *arguments)


def _read(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
