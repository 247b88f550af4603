"""Sends log records with the official OpenTelemetry SDK for Python, by Python's logging.

    bridge.py TRANSPORT ENDPOINT records FILE ROUNDS
    bridge.py TRANSPORT ENDPOINT numbers

../README.md says what a sender does and prints.
"""

import contextlib
import json
import logging
import sys

from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter as JsonExporter
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

EXPORTERS = {
    "grpc": lambda endpoint: GrpcExporter(endpoint=endpoint, insecure=True),
    "http/protobuf": lambda endpoint: HttpExporter(endpoint=endpoint + "/v1/logs"),
    "http/json": lambda endpoint: JsonExporter(endpoint=endpoint + "/v1/logs"),
}
LEVELS = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}


def show(line):
    print(json.dumps(line), flush=True)


class Report(logging.Handler):
    """What the SDK says of its exports: their results, and its own messages."""

    def __init__(self):
        super().__init__()
        self.counts = {"emitted": 0, "exported": 0, "failed": 0}
        self.said = []
        logging.getLogger("opentelemetry").addHandler(self)

    def emit(self, record):
        self.said.append(record.getMessage())

    def count(self, exporter):
        """Counts the records of each result of `exporter`."""
        export = exporter.export

        def counted(batch):
            result = export(batch)
            self.counts["exported" if result is LogRecordExportResult.SUCCESS else "failed"] += len(batch)
            return result

        exporter.export = counted
        return exporter


class Told(LogRecordProcessor):
    """Prints the times that the SDK has given each record."""

    def on_emit(self, log_record):
        record = log_record.log_record
        show({"time": str(record.timestamp), "observed": str(record.observed_timestamp)})

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30000):
        return True


def plain(value):
    """A value of records.json as a program would log it."""
    [(kind, inner)] = value.items()
    match kind:
        case "null":
            return None
        case "long":
            return "x" * inner
        case "int":
            return int(inner)
        case "double":
            return float(inner)
        case "bytes":
            return bytes.fromhex(inner)
        case "array":
            return [plain(item) for item in inner]
        case "map":
            return {key: plain(item) for key, item in inner.items()}
    return inner


def text(body):
    """A body as logging can have it."""
    body = plain(body)
    return body if isinstance(body, str) else json.dumps(body)


def send(log, record, index):
    body = text(record["body"]) if "body" in record else record["kind"]
    level, extra = LEVELS[record.get("level", "info")], {"index": index}
    if "value" in record:
        extra["value"] = plain(record["value"])
    if "event" in record:
        extra["otel.event.name"] = record["event"]
    span = contextlib.nullcontext()
    if (trace := record.get("trace")) is not None:
        ids = int(trace["trace_id"], 16), int(trace["span_id"], 16)
        span = use_span(NonRecordingSpan(SpanContext(*ids, False, TraceFlags(trace["flags"]))))
    with span:
        try:
            if "exception" in record:
                raise TimeoutError(record["exception"])
        except TimeoutError:
            log.log(level, body, extra=extra, exc_info=True)
        else:
            log.log(level, body, extra=extra)


def numbers(log, counts):
    for line in sys.stdin:
        for _ in range(int(line)):
            log.info("numbered", extra={"number": counts["emitted"]})
            counts["emitted"] += 1
        show({"emitted": counts["emitted"]})


def logger(name, provider):
    log = logging.getLogger(name)
    log.setLevel(1)
    log.propagate = False
    log.addHandler(LoggingHandler(logger_provider=provider))
    return log


def main(transport, endpoint, mode, file=None, rounds=0):
    report = Report()
    records = {"resource": {}} if file is None else json.load(open(file, encoding="utf-8"))
    provider = LoggerProvider(resource=Resource.create(plain({"map": records["resource"]})))
    provider.add_log_record_processor(BatchLogRecordProcessor(report.count(EXPORTERS[transport](endpoint))))
    if mode == "records":
        provider.add_log_record_processor(Told())
        log = logger(records["scope"]["name"], provider)
        for index in range(len(records["records"]) * int(rounds)):
            send(log, records["records"][index % len(records["records"])], index)
            report.counts["emitted"] += 1
    else:
        numbers(logger("numbers", provider), report.counts)
    provider.shutdown()
    show(report.counts | {"said": report.said})


if __name__ == "__main__":
    main(*sys.argv[1:])
