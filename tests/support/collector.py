"""A collector of traces: it takes OTLP over HTTP on a socket, and keeps what it is sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Span:
    """One span as it came; ids in hexadecimal digits, `parent` empty at the beginning of a trace."""

    name: str
    trace: str
    id: str
    parent: str
    kind: str
    links: tuple[tuple[str, str], ...]  # trace and span
    facts: dict[str, Any]
    failed: bool
    words: str  # of its status
    events: int
    begun_ns: int
    ended_ns: int
    service: str


@dataclass
class Collector:
    """What was sent so far. `bodies` are the requests as they came."""

    port: int = 0
    spans: list[Span] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def take(self, body: bytes) -> None:
        """Keep what one request holds."""
        self.bodies.append(body)
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _facts(sent.resource.attributes)["service.name"]
            for scope in sent.scope_spans:
                self.spans += [_span(span, service) for span in scope.spans]

    def run_spans(self, run_id: str) -> list[Span]:
        """Return the spans of the trace that a run is in, those that began first before all others."""
        traces = {s.trace for s in list(self.spans) if s.facts.get("team_sessions.run_id") == run_id and s.parent}
        return sorted((s for s in list(self.spans) if s.trace in traces), key=lambda s: s.begun_ns)

    def tree(self, run_id: str) -> list[str]:
        """Return the names of a run's spans, each indented below its parent; siblings by name."""
        spans = self.run_spans(run_id)
        ids = {s.id for s in spans}

        def below(parent: Span, depth: int) -> list[str]:
            children = sorted((s for s in spans if s.parent == parent.id), key=lambda s: (s.name, s.begun_ns))
            return [f"{'  ' * depth}{parent.name}", *(line for c in children for line in below(c, depth + 1))]

        return [line for s in spans if s.parent not in ids for line in below(s, 0)]


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens on loopback until the end of the block."""
    kept = Collector()

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            accepted = self.path == "/v1/traces"
            if accepted:
                kept.take(body)
            self.send_response(200 if accepted else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    kept.port = server.server_port
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def _span(sent: Sent, service: str) -> Span:
    return Span(
        name=sent.name,
        trace=sent.trace_id.hex(),
        id=sent.span_id.hex(),
        parent=sent.parent_span_id.hex(),
        kind=Sent.SpanKind.Name(sent.kind).removeprefix("SPAN_KIND_").lower(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in sent.links),
        facts=_facts(sent.attributes),
        failed=sent.status.code == Status.STATUS_CODE_ERROR,
        words=sent.status.message,
        events=len(sent.events),
        begun_ns=sent.start_time_unix_nano,
        ended_ns=sent.end_time_unix_nano,
        service=service,
    )


def _facts(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(v) for v in value.array_value.values] if kind == "array_value" else getattr(value, kind)
