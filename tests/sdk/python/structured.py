import logging
import os
import socket
import threading

from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource


class StructuredHandler(LoggingHandler):
    """Sends records with their `extra`, and with the process and thread that they are from."""

    def emit(self, record):
        record.process_id = os.getpid()
        record.thread_id = threading.get_native_id()
        super().emit(record)


def attach(name):
    """Has the logger called `name`, and those below it, log through forebay."""
    resource = Resource.create({"service.name": name, "service.version": "1.4.2", "host.name": socket.gethostname()})
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    logging.getLogger(name).addHandler(StructuredHandler(logger_provider=provider))
    return provider


if __name__ == "__main__":
    provider = attach("mcpgateway")
    logging.getLogger("mcpgateway.tools").warning(
        "tool was slow", extra={"component": "tool_service", "user_id": "u-17", "duration_ms": 1250.5, "tool": "search"}
    )
    provider.shutdown()
