import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.opentelemetry.exporter.otlp.http.logs.OtlpHttpLogRecordExporter;
import io.opentelemetry.exporter.otlp.logs.OtlpGrpcLogRecordExporter;
import io.opentelemetry.instrumentation.logback.appender.v1_0.OpenTelemetryAppender;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.logs.LogRecordProcessor;
import io.opentelemetry.sdk.logs.SdkLoggerProvider;
import io.opentelemetry.sdk.logs.SdkLoggerProviderBuilder;
import io.opentelemetry.sdk.logs.data.LogRecordData;
import io.opentelemetry.sdk.logs.export.BatchLogRecordProcessor;
import io.opentelemetry.sdk.logs.export.LogRecordExporter;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.slf4j.LoggerFactory;

/**
 * Sends log records with the official OpenTelemetry SDK for Java, by SLF4J and Logback.
 *
 * <pre>
 * Sender TRANSPORT ENDPOINT records FILE ROUNDS
 * Sender TRANSPORT ENDPOINT numbers
 * </pre>
 *
 * ../README.md says what a sender does and prints.
 */
final class Sender {
  static final ObjectMapper JSON = new ObjectMapper();
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private static LogRecordExporter exporter(String transport, String endpoint) {
    return switch (transport) {
      case "grpc" -> OtlpGrpcLogRecordExporter.builder().setEndpoint(endpoint).build();
      case "http/protobuf" -> OtlpHttpLogRecordExporter.builder().setEndpoint(endpoint + "/v1/logs").build();
      default -> throw new IllegalArgumentException("no exporter for " + transport);
    };
  }

  /** Prints the times that the SDK has given each record. */
  private static LogRecordProcessor told() {
    return (context, record) -> {
      LogRecordData data = record.toLogRecordData();
      String time = Long.toString(data.getTimestampEpochNanos());
      show(Map.of("time", time, "observed", Long.toString(data.getObservedTimestampEpochNanos())));
    };
  }

  /** Gives a logger's events to the appender, and by it to the provider. */
  private static Logger logger(String name, SdkLoggerProvider provider) {
    Logger log = (Logger) LoggerFactory.getLogger(name);
    OpenTelemetryAppender appender = new OpenTelemetryAppender();
    appender.setContext(log.getLoggerContext());
    appender.setKeyValuePairAttributesIncluded("*");
    appender.setOpenTelemetry(OpenTelemetrySdk.builder().setLoggerProvider(provider).build());
    appender.start();
    log.setLevel(Level.TRACE);
    log.setAdditive(false);
    log.addAppender(appender);
    return log;
  }

  /** Logs as many numbered records as each line of stdin says, and answers it. */
  private static void numbers(Logger log, Report report) throws IOException {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      for (int count = Integer.parseInt(line); count > 0; count--) {
        log.atInfo().addKeyValue("number", report.emitted++).log("numbered");
      }
      show(Map.of("emitted", report.emitted));
    }
  }

  private static void show(Object line) {
    try {
      OUT.println(JSON.writeValueAsString(line));
    } catch (IOException error) {
      throw new IllegalStateException(error);
    }
  }

  public static void main(String[] arguments) throws IOException {
    Report report = new Report();
    LogRecordExporter exporter = report.counted(exporter(arguments[0], arguments[1]));
    SdkLoggerProviderBuilder builder =
        SdkLoggerProvider.builder().addLogRecordProcessor(BatchLogRecordProcessor.builder(exporter).build());
    SdkLoggerProvider provider;
    if (arguments[2].equals("records")) {
      JsonNode set = JSON.readTree(new File(arguments[3]));
      provider = builder.addLogRecordProcessor(told()).addResource(Records.resource(set)).build();
      Logger log = logger(set.at("/scope/name").asText(), provider);
      report.emitted = Records.sendAll(log, set.get("records"), Integer.parseInt(arguments[4]));
    } else {
      provider = builder.build();
      numbers(logger("numbers", provider), report);
    }
    provider.shutdown().join(60, TimeUnit.SECONDS);
    show(report.shown());
  }
}
