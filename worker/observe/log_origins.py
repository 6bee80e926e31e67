"""Where a log line comes from, and what is left out of lines that are not ours.

Libraries log whole requests: below WARNING httpx logs the URL of each, and openai its body. Some log URLs in warnings,
too. A URL can hold message text, because tools call other services with it. So lines of libraries below WARNING are
dropped, and URLs are cut to their host in each line that is not of this package.
"""

import importlib.util
import os
import re
from enum import Enum, auto
from functools import lru_cache
from typing import Any

OURS = frozenset({"worker", "api_stub"})
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]([^/\\.]+)")
_STANDARD_LIBRARY = os.path.dirname(os.__file__)
_BESIDE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_URL = re.compile(r"""([A-Za-z][A-Za-z0-9+.-]*)://([^\s"'<>]*[^\s"'<>.,:;])""")
# A path or a name with a query: '/weather?city=Berlin'.
_TARGET = re.compile(r"""[^\s"'<>(]*\?[^\s"'<>]*=[^\s"'<>]*|(?<![^\s"'(=])/[^\s"'<>]*\?[^\s"'<>]+""")
_PATH = re.compile(r"""(?<![^\s"'(=])/[^\s"'<>()]+""")


class Origin(Enum):
    """Whose code logs a line."""

    OURS = auto()
    TEAMS = auto()  # the code of tools and models, and its helpers
    LIBRARY = auto()  # an installed package, or the standard library


@lru_cache(maxsize=4096)
def origin(logger: str, path: str, teams: str | None) -> Origin:
    """Return the origin of a line: *logger* is the name of its logger, *path* the file that logs it.

    *teams* is the package that defines the teams, which can be an installed one.
    """
    name = logger.partition(".")[0]
    if name in OURS:
        return Origin.OURS
    if name == teams:
        return Origin.TEAMS
    if installed := _INSTALLED.search(path):
        return Origin.TEAMS if installed[1] == teams else Origin.LIBRARY
    in_python = path.startswith((_STANDARD_LIBRARY, "<frozen"))
    return Origin.LIBRARY if in_python or _is_installed(name) else Origin.TEAMS


def is_of_users(path: str) -> bool:
    """Return whether a file is neither of this package, nor installed, nor of Python: so it is code of the user's."""
    ours = path.startswith(tuple(f"{_BESIDE}{os.sep}{name}{os.sep}" for name in OURS))
    return not (ours or path.startswith((_STANDARD_LIBRARY, "<")) or _INSTALLED.search(path))


def _is_installed(name: str) -> bool:
    """Tell whether a logger has the name of an installed package: some log through a function of another file."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and _INSTALLED.search(spec.origin or "") is not None


def shortened(value: Any, origin: Origin) -> Any:
    """Return a value of a line without the paths and the queries of URLs; in lines of libraries without any path."""
    match value:
        case str():
            text = _TARGET.sub("/…", _URL.sub(_host_only, value))
            return _PATH.sub("/…", text) if origin is Origin.LIBRARY else text
        case None | bool() | int() | float():
            return value
        case dict():
            return {str(key): shortened(each, origin) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [shortened(each, origin) for each in value]
        case _:
            return shortened(str(value), origin)


def _host_only(url: re.Match[str]) -> str:
    authority, *rest = re.split(r"[/?#\\]", url[2], maxsplit=1)
    if rest and "@" in rest[0]:  # it may begin in a password
        return f"{url[1]}://…"
    host = authority.rpartition("@")[2]
    return f"{url[1]}://{host}/…" if rest and rest[0] else f"{url[1]}://{host}"
