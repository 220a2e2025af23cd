"""The list of a policy's mistakes while it is being read, and how their places are written.

Called by whatever reads a part of the file; it ends as the `problems` of a `PolicyError`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from celery_budget.errors import PolicyError, Problem
from celery_budget.policy.names import closest, is_name

#: Enough for any honest file; a bound for one that is no policy at all.
MAX_PROBLEMS = 1_000

#: Longest piece of the author's own text that a message repeats.
MAX_SHOWN = 64

#: Bands that a message lists; more would bury what is wrong.
MAX_LISTED = 8

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Problems:
    """Collects every mistake, so that one run of the check shows them all."""

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._left_out = 0

    def __len__(self) -> int:
        return len(self._found) + self._left_out

    def add(self, path: str, message: str, suggestion: str = "") -> None:
        """Note one mistake."""
        if len(self._found) < MAX_PROBLEMS:
            self._found.append(Problem(path, message, suggestion))
        else:
            self._left_out += 1

    def unknown_band(self, path: str, name: str, known: Sequence[str]) -> None:
        """Note a band that the policy does not have.

        Args:
            path: Where it is named.
            name: As written there.
            known: The bands of the policy, as written, good or bad.
        """
        if not known:
            self.add(path, f"band {quote(name)} is unknown, as the policy has no bands")
            return
        good = listed(known)
        self.add(
            path,
            f"band {quote(name)} is unknown",
            # A bad name is told of where it stands, and is no advice: a terminal may not bear it.
            closest(name, filter(is_name, known)) or (f"the policy has {good}" if good else ""),
        )

    def raise_if_any(self) -> None:
        """Refuse the policy if anything was noted.

        Raises:
            PolicyError: With all of it.
        """
        if not self._found:
            return
        if self._left_out:
            self._found.append(Problem("", f"and {self._left_out} more mistakes"))
        raise PolicyError(self._found)


def join(path: str, key: object) -> str:
    """Write the place of a key below a path as its author would in TOML."""
    text = key if isinstance(key, str) else f"<{type(key).__name__}>"
    if _BARE_KEY.fullmatch(text) is None:
        text = quote(text)
    return f"{path}.{text}" if path else text


def listed(names: Sequence[str]) -> str:
    """List the names of bands for a message, the first few of them."""
    good = [name for name in names if is_name(name)]
    return ", ".join(good[:MAX_LISTED] + ["…"] * (len(good) > MAX_LISTED))


def quote(text: str) -> str:
    """Quote a text of the author's for a message, shortened."""
    cut = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
    escaped = cut.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escape(escaped)}"'


def escape(text: str) -> str:
    """Escape what a terminal or a line of a log must not get."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
