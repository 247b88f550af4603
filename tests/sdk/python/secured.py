"""Exports ten records with the official OpenTelemetry SDK, each in a request of its own; says what came of them.

    secured.py

Where to, by TLS or not, and who sends is taken from the environment as the SDK has it: OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, OTEL_EXPORTER_OTLP_CLIENT_KEY,
OTEL_EXPORTER_OTLP_HEADERS. The last line on stdout is a count of results, such as {'SUCCESS': 10}.
"""

import collections

from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor


class ToldExporter(OTLPLogExporter):
    """Counts the results."""

    results = collections.Counter()

    def export(self, batch):
        result = super().export(batch)
        self.results[result.name] += 1
        return result


def main():
    exporter = ToldExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("secured")
    for number in range(10):
        logger.emit(LogRecord(body=f"record {number}"))
    provider.shutdown()
    print(dict(exporter.results))


if __name__ == "__main__":
    main()
