"""Flower's login: one line, USER:PASSWORD, which is compared as a whole, whatever characters it has.

Flower itself would take a comma for the end of a login and the beginning of another one, and fail on an umlaut.
"""

import base64
import binascii
import hashlib
import hmac

from worker.controls import PATTERN
from worker.errors import LoginInvalid

MAX_CHARS = 1000  # a header of HTTP has to hold it


def parse(content: bytes, *, file: str) -> str:
    """Return the login in the content of *file*: without a byte order mark and the line end.

    Raises:
        LoginInvalid
    """
    try:
        login = content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise LoginInvalid(file=file, problem="it is not text in UTF-8") from None
    user, colon, password = login.partition(":")
    problems = {
        "it is empty": not login,
        "it has more than one line": "\n" in login or "\r" in login,
        "it holds a control character": "\t" in login or PATTERN.search(login),
        "it has no colon": not colon,
        "its user is empty": not user,
        "its password is empty": not password,
        f"it has more than {MAX_CHARS} characters": len(login) > MAX_CHARS,
    }
    for problem, applies in problems.items():
        if applies:
            raise LoginInvalid(file=file, problem=problem)
    return login


def matches(header: str, login: str) -> bool:
    """Tell whether an Authorization header holds this login. It takes the same time for every wrong one."""
    scheme, _, credentials = header.partition(" ")
    try:
        given = base64.b64decode(credentials.strip(), validate=True)
    except (binascii.Error, ValueError):
        given = b""
    digests = (hashlib.sha256(each).digest() for each in (given, login.encode()))
    return hmac.compare_digest(*digests) and scheme.lower() == "basic"
