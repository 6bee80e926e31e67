"""The page of errors has every code that a caller can meet."""

import importlib
import inspect
import pkgutil
import re
from types import ModuleType

import api_stub
import worker
from ops.handbook.generate import HERE
from worker import errors

PAGE = (HERE / "errors.md").read_text()


def modules() -> list[ModuleType]:
    """Return every module of ours that is imported outside of migrations."""
    found = [
        info.name
        for package in (worker, api_stub)
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if ".migrations" not in info.name
    ]
    return [importlib.import_module(name) for name in found]


def test_the_page_has_the_code_of_every_class_once() -> None:
    """Of each class by itself, with those that others are derived from: `internal`, `model_rate_limited`."""
    classes = {
        value
        for module in modules()
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, errors.TeamSessionsError)
    }

    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert len(classes) > 50
    assert sorted(listed) == sorted(cls.code for cls in classes)
    assert all("code" in vars(cls) for cls in classes), "a code of its own"


def test_the_page_has_the_codes_that_the_api_adds() -> None:
    """They belong to no class: what the framework refuses."""
    source = "".join(inspect.getsource(module) for module in modules() if module.__name__.startswith("api_stub."))
    added = set(re.findall(r'(?:code=|\d{3}: \(\s*|, \()"(\w+)"', source)) - {"internal"}

    assert {"malformed_json", "invalid_request", "body_too_large", "route_not_found", "http_error"} <= added
    assert {code for code in added if f"`{code}`" not in PAGE} == set()
