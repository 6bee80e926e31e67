"""The client of the HTTP API, for programs that only enqueue and follow runs."""

from api_stub.client import *
from api_stub.client import __all__ as __all__
