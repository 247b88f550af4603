"""Logs one record of each kind with structured.py, and says in JSON which process and thread it was."""

import json
import logging
import os
import socket
import threading

from opentelemetry import trace
from structured import attach

provider = attach("mcpgateway")
log = logging.getLogger("mcpgateway.structured")
log.setLevel(logging.DEBUG)

log.warning(
    "tool was slow",
    extra={
        "correlation_id": "c-1",
        "request_id": "r-1",
        "component": "tool_service",
        "user_id": "u-17",
        "user_email": "user@example.com",
        "client_ip": "2001:db8::17",
        "user_agent": "curl/8.5",
        "request_path": "/tools/search",
        "request_method": "POST",
        "duration_ms": 1250.5,
        "operation_type": "tool_invocation",
        "is_security_event": True,
        "security_severity": "LOW",
        "threat_indicators": {"score": 0.25, "kinds": ["rate"]},
        "error_type": "TimeoutError",
        "error_message": "no answer",
        "error_stack_trace": "line 1\nline 2",
        "error_context": {"tool": {"name": "search"}},
        "database_query_count": 3,
        "cache_hits": 2,
        "cache_misses": 1,
        "external_api_calls": 4,
        "memory_usage_mb": 12.5,
        "cpu_usage_percent": 7,
        "query_duration_ms": 20.25,
        "tool": "search",
        "tags": ["a", "b"],
    },
)
log.info("nothing but a message")
log.critical("x" * 3000, extra={"component": "ü" * 101, "request_path": "/" + "é" * 600, "request_method": "PROPPATCH-X"})
log.error("odd values", extra={"duration_ms": "12.5", "is_security_event": "yes", "user_id": 17})
log.debug("unfit values", extra={"duration_ms": "fast", "is_security_event": "perhaps", "client_ip": "1" * 46})
context = trace.SpanContext(0xA1B2, 0xC3D4, is_remote=False, trace_flags=trace.TraceFlags(1))
with trace.use_span(trace.NonRecordingSpan(context)):
    log.log(logging.FATAL, "in a span")
provider.shutdown()
print(json.dumps({"process": os.getpid(), "thread": threading.get_native_id(), "host": socket.gethostname()}))
