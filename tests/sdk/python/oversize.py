"""Exports one record of two MiB with the official OpenTelemetry SDK; says how often it was sent, and what came of it.

    oversize.py ENDPOINT
"""

import sys

from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor


class CountedStub:
    """The exporter's own stub, with its calls counted."""

    def __init__(self, stub):
        self.stub, self.calls = stub, 0

    def Export(self, *arguments, **keywords):
        self.calls += 1
        return self.stub.Export(*arguments, **keywords)


class ToldExporter(OTLPLogExporter):
    """Keeps the results."""

    results = ()

    def export(self, batch):
        result = super().export(batch)
        self.results += (result.name,)
        return result


def main(endpoint):
    exporter = ToldExporter(endpoint=endpoint, insecure=True)
    exporter._client = CountedStub(exporter._client)
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("oversize").emit(LogRecord(body="x" * (2 << 20)))
    provider.shutdown()
    calls = exporter._client.calls
    print(f"sent {calls} time{'s'[: calls != 1]}: {' '.join(exporter.results)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
