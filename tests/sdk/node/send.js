// Sends log records with the official OpenTelemetry SDK for JavaScript, by its logs API.
//
//     send.js TRANSPORT ENDPOINT records FILE ROUNDS
//     send.js TRANSPORT ENDPOINT numbers
//
// ../README.md says what a sender does and prints.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { DiagLogLevel, ROOT_CONTEXT, diag, trace } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { OTLPLogExporter as GrpcExporter } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPLogExporter as JsonExporter } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtobufExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';

const [transport, endpoint, mode, file, rounds] = process.argv.slice(2);

const exporters = {
  grpc: () => new GrpcExporter({ url: endpoint }),
  'http/protobuf': () => new ProtobufExporter({ url: `${endpoint}/v1/logs` }),
  'http/json': () => new JsonExporter({ url: `${endpoint}/v1/logs` }),
};

/** What the SDK says of its exports. */
const report = { emitted: 0, exported: 0, failed: 0, said: [] };

const show = line => console.log(JSON.stringify(line));

/** Counts the records of each result of the exporter. */
function counted(exporter) {
  const inner = exporter.export.bind(exporter);
  exporter.export = (records, done) => inner(records, result => {
    report[result.code === 0 ? 'exported' : 'failed'] += records.length;
    done(result);
  });
  return exporter;
}

/** Prints the times that the SDK has given each record. */
class Told {
  onEmit(record) {
    const nanoseconds = ([seconds, rest]) => String(BigInt(seconds) * 1_000_000_000n + BigInt(rest));
    show({ time: nanoseconds(record.hrTime), observed: nanoseconds(record.hrTimeObserved) });
  }
  async forceFlush() {}
  async shutdown() {}
}

/** A value of records.json as a program would log it. A number holds no integer beyond 2^53: that is logged as text. */
function plain(value) {
  const [kind, inner] = Object.entries(value)[0];
  switch (kind) {
    case 'null': return null;
    case 'long': return 'x'.repeat(inner);
    case 'int': return Number.isSafeInteger(Number(inner)) ? Number(inner) : inner;
    case 'double': return Number(inner);
    case 'bytes': return Uint8Array.from(Buffer.from(inner, 'hex'));
    case 'array': return inner.map(plain);
    case 'map': return plainMap(inner);
    default: return inner;
  }
}

function plainMap(map) {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, plain(value)]));
}

function sendRecord(log, record, index) {
  const { kind, level = 'info', body, value, event, exception, trace: context } = record;
  const span = context && { traceId: context.trace_id, spanId: context.span_id, traceFlags: context.flags };
  log.emit({
    // A Date, the default, has no more than milliseconds.
    timestamp: [1_763_900_000, 123_456_789 + index],
    severityNumber: SeverityNumber[level.toUpperCase()],
    severityText: level.toUpperCase(),
    body: body ? plain(body) : kind,
    attributes: value ? { index, value: plain(value) } : { index },
    eventName: event,
    exception: exception && new RangeError(exception),
    context: span && trace.setSpanContext(ROOT_CONTEXT, span),
  });
}

async function numbers(log) {
  for await (const line of createInterface({ input: process.stdin })) {
    for (let count = Number(line); count > 0; count--) {
      log.emit({ body: 'numbered', attributes: { number: report.emitted++ } });
    }
    show({ emitted: report.emitted });
  }
}

/** An error comes as JSON of its parts. */
function say(...words) {
  const text = words.map(String).join(' ');
  report.said.push(text.startsWith('{') ? JSON.parse(text).message : text);
}

diag.setLogger({ error: say, warn: say, info() {}, debug() {}, verbose() {} }, DiagLogLevel.WARN);
const processors = [new BatchLogRecordProcessor({ exporter: counted(exporters[transport]()) })];
if (mode === 'records') {
  const set = JSON.parse(readFileSync(file, 'utf8'));
  const resource = defaultResource().merge(resourceFromAttributes(plainMap(set.resource)));
  const provider = new LoggerProvider({ resource, processors: [...processors, new Told()] });
  const log = provider.getLogger(set.scope.name, set.scope.version);
  for (let round = 0; round < Number(rounds); round++) {
    for (const record of set.records) {
      sendRecord(log, record, report.emitted++);
    }
  }
  await provider.shutdown();
} else {
  const provider = new LoggerProvider({ processors });
  await numbers(provider.getLogger('numbers'));
  await provider.shutdown();
}
show(report);
