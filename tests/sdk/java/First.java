import io.opentelemetry.instrumentation.logback.appender.v1_0.OpenTelemetryAppender;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import java.util.Map;
import org.slf4j.LoggerFactory;

final class First {
  public static void main(String[] arguments) {
    // It sends what is left, too, when the program ends.
    OpenTelemetrySdk sdk = AutoConfiguredOpenTelemetrySdk.builder()
        .addPropertiesSupplier(() -> Map.of("otel.service.name", "shop",
            "otel.traces.exporter", "none", "otel.metrics.exporter", "none"))
        .build().getOpenTelemetrySdk();
    OpenTelemetryAppender.install(sdk);

    LoggerFactory.getLogger("checkout").atWarn().addKeyValue("order", 17).log("card declined");
  }
}
