{{/* The configuration, with what TLS, authentication and the queue on disk take. */}}
{{- define "forebay.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $port := dict }}
{{- if .Values.tls.enabled }}
{{- $tls := dict "cert_file" "/etc/forebay/tls/tls.crt" "key_file" "/etc/forebay/tls/tls.key" "reload_interval" "1m" }}
{{- if .Values.tls.clientCertificates }}
{{- $_ := set $tls "client_ca_file" "/etc/forebay/tls/ca.crt" }}
{{- end }}
{{- $_ := set $port "tls" $tls }}
{{- end }}
{{- if .Values.auth.bearer.enabled }}
{{- $_ := set $port "auth" (dict "authenticator" "bearertokenauth") }}
{{- $_ := set $config.extensions "bearertokenauth" (dict "filename" "/etc/forebay/auth/tokens") }}
{{- $_ := set $config.service "extensions" (append $config.service.extensions "bearertokenauth") }}
{{- end }}
{{- if .Values.storage.enabled }}
{{- $files := dict "directory" "/var/lib/forebay/queue" }}
{{- $_ := set $config.extensions "file_storage" (mergeOverwrite (default dict $config.extensions.file_storage) $files) }}
{{- $_ := set $config.service "extensions" (append $config.service.extensions "file_storage" | uniq) }}
{{- $_ := set $config.exporters.postgres.sending_queue "storage" "file_storage" }}
{{- end }}
{{- range $name, $protocol := $config.receivers.otlp.protocols }}
{{- $_ := set $config.receivers.otlp.protocols $name (merge (deepCopy $port) (default dict $protocol)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* How forebay is asked how it is: `forebay health`, by the same configuration. */}}
{{- define "forebay.health" -}}
exec:
  command: [/usr/bin/forebay, health, --at-least, {{ . }}, --config, /etc/forebay/config/config.yaml]
timeoutSeconds: 5
{{- end }}
