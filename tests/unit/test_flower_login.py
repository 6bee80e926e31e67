"""Flower's login is one line and is compared as a whole; what cannot be one is refused with a reason."""

import base64

import pytest

from worker.errors import LoginInvalid
from worker.queue.flower_login import MAX_CHARS, matches, parse

LOGINS = [
    "flower:abc,def",
    "flower:ab c",
    " flower: padded ",
    "flöwer:pässwörd 🦉",
    "user:p%:ss w$rd",
    "ada:" + "x" * (MAX_CHARS - 4),
    "a,b:c,d",
    "flower::",
]


def header(login: bytes | str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(login if isinstance(login, bytes) else login.encode()).decode()}"


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("written", ["{}", "{}\n", "{}\r\n", "\ufeff{}\n"], ids=["bare", "LF", "CRLF", "BOM"])
def test_exactly_the_login_of_the_file_gets_in(login: str, written: str) -> None:
    """Not a part of it, with a comma or without, and nothing that is no header of HTTP Basic."""
    parsed = parse(written.format(login).encode(), file="login")
    user, _, password = login.partition(":")
    parts = [*login.split(","), login[:-1], login + " ", login.strip(" ") + "x", user, password, ":", "", login.upper()]

    assert parsed == login
    assert matches(header(login), parsed)
    assert matches(header(login, "basic"), parsed)
    assert [part for part in parts if part != login and matches(header(part), parsed)] == []
    others = [
        "",
        "Basic",
        "Basic é",
        f"Basic {login}",
        header(login, "Bearer"),
        header(b"\xff\xfe"),
        header(login)[:-4],
    ]
    assert [other for other in others if matches(other, parsed)] == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"nocolon\n", "it has no colon"),
        (b":pw\n", "its user is empty"),
        (b"flower:\n", "its password is empty"),
        (b"a:b\nc:d\n", "it has more than one line"),
        (b"a:b\rc:d", "it has more than one line"),
        (b"a:b\tc\n", "it holds a control character"),
        (b"a:b\x00\n", "it holds a control character"),
        (b"a:\xff\n", "it is not text in UTF-8"),
        (b"a:" + b"x" * MAX_CHARS, f"it has more than {MAX_CHARS} characters"),
    ],
)
def test_what_cannot_be_a_login_is_refused(content: bytes, problem: str) -> None:
    """The message names the file and the problem, and shows nothing of the login."""
    with pytest.raises(LoginInvalid) as refused:
        parse(content, file="login-file")

    assert (
        refused.value.message
        == f"Flower's login in 'login-file' cannot be used: {problem}. Expected one line: USER:PASSWORD."
    )
