import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.logs.data.LogRecordData;
import io.opentelemetry.sdk.logs.export.LogRecordExporter;
import java.util.Collection;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;

/** What the SDK says of its exports: their results, and its own messages. */
final class Report extends Handler {
  int emitted;
  private final AtomicInteger exported = new AtomicInteger();
  private final AtomicInteger failed = new AtomicInteger();
  private final Collection<String> said = new ConcurrentLinkedQueue<>();
  // Held, since a logger that nobody holds forgets its handlers.
  private final Logger own = Logger.getLogger("io.opentelemetry");

  Report() {
    own.setUseParentHandlers(false);
    own.addHandler(this);
  }

  Map<String, Object> shown() {
    return Map.of("emitted", emitted, "exported", exported.get(), "failed", failed.get(), "said", said);
  }

  /** Counts the records of each result of {@code exporter}. */
  LogRecordExporter counted(LogRecordExporter exporter) {
    return new LogRecordExporter() {
      @Override
      public CompletableResultCode export(Collection<LogRecordData> records) {
        int count = records.size();
        CompletableResultCode result = exporter.export(records);
        return result.whenComplete(() -> (result.isSuccess() ? exported : failed).addAndGet(count));
      }

      @Override
      public CompletableResultCode flush() {
        return exporter.flush();
      }

      @Override
      public CompletableResultCode shutdown() {
        return exporter.shutdown();
      }
    };
  }

  @Override
  public void publish(LogRecord message) {
    said.add(message.getMessage());
  }

  @Override
  public void flush() {}

  @Override
  public void close() {}
}
