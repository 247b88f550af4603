"""Sends twenty log records as a small web shop would, with Python's logging and the official OpenTelemetry SDK.

    demo.py ENDPOINT RUN

RUN becomes the resource attribute `service.instance.id`, by which the records can be found again.
"""

import logging
import sys

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

REQUESTS = [
    ("GET", "/", 200, 3.1),
    ("GET", "/products?q=tea", 200, 12.7),
    ("GET", "/products/17", 200, 8.4),
    ("POST", "/cart", 201, 21.9),
    ("GET", "/favicon.ico", 404, 0.6),
    ("POST", "/checkout", 500, 1500.2),
    ("POST", "/checkout", 200, 88.0),
]


def request(log, number, method, path, status, milliseconds):
    """One request in its own trace: two records, three for a failure."""
    span = SpanContext(0xFEED << 112 | number, 0xBEEF << 48 | number, False, TraceFlags(TraceFlags.SAMPLED))
    with use_span(NonRecordingSpan(span)):
        log.debug("handling %s %s", method, path)
        fields = {"http.request.method": method, "url.path": path, "http.response.status_code": status}
        level = logging.ERROR if status >= 500 else logging.WARNING if status >= 400 else logging.INFO
        log.log(level, "%s %s -> %d", method, path, status, extra=fields | {"duration_ms": milliseconds})
        if status >= 500:
            try:
                raise TimeoutError("no answer from the payment service within 1.5 s")
            except TimeoutError:
                log.exception("checkout failed")


def main(endpoint, run):
    resource = Resource.create({"service.name": "demo-shop", "service.instance.id": run})
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=endpoint, insecure=True)))
    log = logging.getLogger("shop")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(LoggingHandler(logger_provider=provider))

    log.info("starting")
    for number, (method, path, status, milliseconds) in enumerate(REQUESTS, 1):
        request(log, number, method, path, status, milliseconds)
    log.critical("out of tea 🍵")
    # What Python's logging cannot say: an event, and a body that is not a text.
    events = provider.get_logger("shop.events", "1.0")
    order = {"order": 4711, "items": [{"sku": "tea-17", "count": 2, "gift": False}], "total": 23.8}
    events.emit(event_name="order.placed", severity_number=SeverityNumber.INFO, body=order)
    events.emit(body=["no severity", "and a list as the body"])
    log.info("stopping")
    provider.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
