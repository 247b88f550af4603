"""Sends log records of every kind with the official OpenTelemetry SDK, and prints what it sent.

    send.py [--count N] [--run NAME] http://127.0.0.1:4317

Each line on stdout is one record as JSON, in the order of sending, whatever the SDK's defaults add included:

    index, time_unix_nano, observed_time_unix_nano (decimal text; "0" is unknown), severity_number (0 is none),
    severity_text, event_name (null is none), trace_id, span_id (hex; null is none), trace_flags, body, attributes,
    dropped_attributes_count, resource: {attributes, schema_url}, scope: {name, version, attributes, schema_url}

Attributes are lists of [key, value]. A value is one of
    {"type": "empty"}
    {"type": "string", "value": text}
    {"type": "bool", "value": true or false}
    {"type": "int", "value": decimal text}
    {"type": "double", "value": Python's repr, "bits": 16 hex digits of the IEEE 754 double}
    {"type": "bytes", "value": hex}
    {"type": "array", "value": [values]}
    {"type": "map", "value": [[key, value], ...]}

Every record has the attribute `test.index`, every resource the attribute `test.run`. The exit status is 0 if
the server accepted every batch, which is not to say every record: the SDK does not look at partial_success.
"""

import argparse
import json
import logging
import struct
import sys
import warnings

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

NANO = 1_000_000_000
START = 1_763_900_000 * NANO + 123_456_789

TEXTS = [
    "",
    "plain",
    " spaces and\ttabs\r\nand lines ",
    'quotes " and \\ backslashes \\u0041',
    "controls \x01\x1f\x7f\x85",
    "Grüße, 世界, שלום, नमस्ते",
    "emoji 🦀👩‍👩‍👧 and \U0010ffff",
    "combining e\u0301 and \u2028 and \ufffd and \ufeff",
    "NUL \x00 inside",
    "\x00",
    "long " + "x" * 10_000,
]
INTS = [0, 1, -1, 255, 2**31 - 1, -(2**31), 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
DOUBLES = [
    0.0, -0.0, 1.0, -1.5, 0.1, 1 / 3, 1e15, 1e16, 1e21, 1e308, 5e-324, 2.2250738585072014e-308,
    1.7976931348623157e308, float(2**53), float("nan"), float("inf"), float("-inf"),
]  # fmt: skip
BYTES = [b"", b"\x00", b"bytes", bytes(range(256)), b"\xff\xfe\x80"]
ARRAYS = [
    [],
    ["a", "b", ""],
    [1, -(2**63), 2**63 - 1],
    [True, False],
    [0.5, float("nan"), -0.0],
    [None, "mixed", 1, 1.0, True, b"\x00\xff", [], {}],
    [[1, [2, [3, [4, ["deep"]]]]], {"in": {"a": ["map"]}}],
]
MAPS = [
    {},
    {"key": "value"},
    {"Schlüssel 🔑": "ключ", 'quote"d': "back\\slash", "with.dots": 1},
    {"none": None, "bool": True, "int": 2**63 - 1, "double": 2.5, "bytes": b"\x01\x02", "text": ""},
    {"list": [1, "two", None, {"three": [3.0]}], "map": {"map": {"map": {}}}},
]
VALUES = [None, *TEXTS, True, False, *INTS, *DOUBLES, *BYTES, *ARRAYS, *MAPS]


def nested(levels):
    """Arrays and maps in turn, `levels` of them around a text."""
    value = "innermost"
    for level in range(levels):
        value = [value] if level % 2 else {"level": value}
    return value


# Python's protobuf refuses more than 100 messages in each other; a map is three of them.
VALUES += [nested(10), nested(30)]

SEVERITY_TEXTS = [None, "", "INFO", "warning", "Grüße", "NOTICE"]
EVENT_NAMES = [None, None, "", "user.login", "событие"]


def record(index):
    """The keyword arguments for the SDK's `emit`."""
    timestamp, observed = START + index, START + NANO + 2 * index
    match index % 50:
        case 3:
            timestamp = None
        case 4:
            timestamp, observed = None, 0
        case 5:
            observed = 0
        case 6:
            timestamp = [1, 999, NANO - 1, 2**63 - 1, 2**64 - 1][index // 50 % 5]
        case 7:
            timestamp = START - index * 86_400 * NANO
    attributes = {"test.index": index}
    for offset in range(index % 7):
        at = (index * 7 + offset * 13) % len(VALUES)
        attributes[f"value.{at}"] = VALUES[at]
    if index % 31 == 0:
        attributes |= {f"many.{number}": number for number in range(100)}
    if index % 37 == 0:
        # The SDK has no attributes without a key: it drops this one, and counts it.
        attributes[""] = "dropped"
    context = None
    if index % 3:
        trace_id = index * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128 or 1
        span_id = index * 0x9E3779B97F4A7C15 % 2**64 or 1
        flags = TraceFlags([0, 1, 0x03][index % 3])
        context = set_span_in_context(NonRecordingSpan(SpanContext(trace_id, span_id, index % 2 == 0, flags)))
    return {
        "timestamp": timestamp,
        "observed_timestamp": observed,
        "severity_number": None if index % 26 == 25 else SeverityNumber(index % 26 % 25),
        "severity_text": SEVERITY_TEXTS[index % len(SEVERITY_TEXTS)],
        "body": VALUES[index % len(VALUES)],
        "attributes": attributes,
        "event_name": EVENT_NAMES[index % len(EVENT_NAMES)],
        "context": context,
    }


def describe(value):
    if value is None:
        return {"type": "empty"}
    if isinstance(value, bool):
        return {"type": "bool", "value": value}
    if isinstance(value, str):
        return {"type": "string", "value": value}
    if isinstance(value, int):
        return {"type": "int", "value": str(value)}
    if isinstance(value, float):
        return {"type": "double", "value": repr(value), "bits": struct.pack(">d", value).hex()}
    if isinstance(value, bytes):
        return {"type": "bytes", "value": value.hex()}
    if isinstance(value, (list, tuple)):
        return {"type": "array", "value": [describe(item) for item in value]}
    return {"type": "map", "value": pairs(value)}


def pairs(attributes):
    return [[key, describe(value)] for key, value in (attributes or {}).items()]


def describe_record(index, logger, sent):
    dropped = "" in sent["attributes"]
    span = None if sent["context"] is None else next(iter(sent["context"].values())).get_span_context()
    scope = logger.instrumentation_scope
    return {
        "index": index,
        "time_unix_nano": str(sent["timestamp"] or 0),
        "observed_time_unix_nano": str(sent["observed_timestamp"]),
        "severity_number": 0 if sent["severity_number"] is None else sent["severity_number"].value,
        "severity_text": sent["severity_text"],
        "event_name": sent["event_name"],
        "trace_id": span and f"{span.trace_id:032x}",
        "span_id": span and f"{span.span_id:016x}",
        "trace_flags": int(span.trace_flags) if span else 0,
        "body": describe(sent["body"]),
        "attributes": pairs({key: value for key, value in sent["attributes"].items() if key}),
        "dropped_attributes_count": int(dropped),
        "resource": {
            "attributes": pairs(logger.resource.attributes),
            "schema_url": logger.resource.schema_url,
        },
        "scope": {
            "name": scope.name,
            "version": scope.version,
            "attributes": pairs(scope.attributes),
            "schema_url": scope.schema_url,
        },
    }


class CheckedExporter(OTLPLogExporter):
    """Counts the batches that were accepted: the SDK's force_flush is true whatever the exporter met."""

    tried = accepted = 0

    def export(self, batch):
        self.tried += 1
        result = super().export(batch)
        self.accepted += result is LogRecordExportResult.SUCCESS
        return result


def loggers(endpoint, run, count):
    """Two resources with three scopes each, their providers, and the providers' exporters."""
    resources = [
        Resource.create({"service.name": "python-sdk", "test.run": run}, "https://example.com/schemas/1"),
        Resource.create(
            {"service.name": "Grüße", "test.run": run, "list": ["a", "b"], "none": None, "int": 2**63 - 1}
            | {"double": 0.5, "bytes": b"\x00\xff", "map": {"k": [1, {"n": None}]}, "flag": True}
        ),
    ]
    made, providers, exporters = [], [], []
    for resource in resources:
        exporter = CheckedExporter(endpoint=endpoint, insecure=True)
        provider = LoggerProvider(resource=resource)
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_queue_size=max(2048, count)))
        made.append(provider.get_logger("plain"))
        made.append(provider.get_logger("full", "1.2.3", "https://example.com/schemas/2", {"k": [1, None, "ü"]}))
        made.append(provider.get_logger("no.version", schema_url=""))
        providers.append(provider)
        exporters.append(exporter)
    return made, providers, exporters


def main():
    # The attribute without a key is dropped on purpose.
    logging.getLogger("opentelemetry.attributes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description="Sends log records of every kind and prints them as JSON.")
    parser.add_argument("endpoint", help="OTLP/gRPC, such as http://127.0.0.1:4317")
    parser.add_argument("--count", type=int, default=1000, help="records to send [1000]")
    parser.add_argument("--run", default="0", help="the value of the resource attribute test.run [0]")
    arguments = parser.parse_args()
    made, providers, exporters = loggers(arguments.endpoint, arguments.run, arguments.count)
    for index in range(arguments.count):
        logger, sent = made[index % len(made)], record(index)
        print(json.dumps(describe_record(index, logger, sent)))
        logger.emit(**sent)
    flushed = [provider.force_flush() for provider in providers]
    for provider in providers:
        provider.shutdown()
    if not all(flushed) or any(exporter.accepted < exporter.tried for exporter in exporters):
        sys.exit("the server did not take every batch")


if __name__ == "__main__":
    main()
