import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.AttributesBuilder;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.context.Scope;
import io.opentelemetry.sdk.resources.Resource;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeoutException;
import org.slf4j.Logger;
import org.slf4j.event.Level;
import org.slf4j.spi.LoggingEventBuilder;

/** The records of ../records.json. */
final class Records {
  private Records() {}

  /** Logs them as often as it is told to; gives how many that are. */
  static int sendAll(Logger log, JsonNode records, int rounds) throws JsonProcessingException {
    int index = 0;
    for (int round = 0; round < rounds; round++) {
      for (JsonNode one : records) {
        try (Scope span = span(one.get("trace"))) {
          send(log, one, index++);
        }
      }
    }
    return index;
  }

  private static void send(Logger log, JsonNode one, int index) throws JsonProcessingException {
    LoggingEventBuilder event = log.atLevel(level(one.path("level").asText("info"))).addKeyValue("index", index);
    if (one.has("value")) {
      event = event.addKeyValue("value", logged(plain(one.get("value"))));
    }
    if (one.has("event")) {
      event = event.addKeyValue("otel.event.name", one.get("event").asText());
    }
    if (one.has("exception")) {
      event = event.setCause(new TimeoutException(one.get("exception").asText()));
    }
    Object body = one.has("body") ? plain(one.get("body")) : one.get("kind").asText();
    event.log(body instanceof String text ? text : Sender.JSON.writeValueAsString(body));
  }

  static Resource resource(JsonNode set) {
    AttributesBuilder attributes = Attributes.builder();
    for (Map.Entry<String, JsonNode> pair : set.get("resource").properties()) {
      String key = pair.getKey();
      Object value = plain(pair.getValue());
      if (value instanceof Boolean flag) {
        attributes.put(key, flag);
      } else if (value instanceof Long number) {
        attributes.put(key, number);
      } else if (value instanceof Double number) {
        attributes.put(key, number);
      } else if (value instanceof List<?> texts) {
        attributes.put(key, texts.toArray(String[]::new));
      } else {
        attributes.put(key, (String) value);
      }
    }
    return Resource.create(attributes.build());
  }

  /** SLF4J has no level above ERROR. */
  private static Level level(String level) {
    return level.equals("fatal") ? Level.ERROR : Level.valueOf(level.toUpperCase());
  }

  private static Scope span(JsonNode trace) {
    if (trace == null) {
      return Scope.noop();
    }
    TraceFlags flags = TraceFlags.fromByte((byte) trace.get("flags").asInt());
    String traceId = trace.get("trace_id").asText();
    String spanId = trace.get("span_id").asText();
    return Span.wrap(SpanContext.create(traceId, spanId, flags, TraceState.getDefault())).makeCurrent();
  }

  private static Object plain(JsonNode value) {
    String kind = value.fieldNames().next();
    JsonNode inner = value.get(kind);
    return switch (kind) {
      case "null" -> null;
      case "long" -> "x".repeat(inner.asInt());
      case "bool" -> inner.asBoolean();
      case "int" -> Long.valueOf(inner.asText());
      case "double" -> Double.valueOf(inner.asText());
      case "bytes" -> HexFormat.of().parseHex(inner.asText());
      case "array" -> {
        List<Object> items = new ArrayList<>();
        inner.forEach(item -> items.add(plain(item)));
        yield items;
      }
      case "map" -> {
        Map<String, Object> pairs = new LinkedHashMap<>();
        inner.properties().forEach(pair -> pairs.put(pair.getKey(), plain(pair.getValue())));
        yield pairs;
      }
      default -> inner.asText();
    };
  }

  /** The appender knows arrays of one kind, and makes of other objects what their toString says: these go as JSON. */
  private static Object logged(Object value) throws JsonProcessingException {
    if (value instanceof List<?> items && !items.isEmpty()) {
      if (items.stream().allMatch(Long.class::isInstance)) {
        return items.toArray(Long[]::new);
      }
      if (items.stream().allMatch(String.class::isInstance)) {
        return items;
      }
    }
    return value instanceof List || value instanceof Map ? Sender.JSON.writeValueAsString(value) : value;
  }
}
