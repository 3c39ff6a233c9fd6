{{/* Refuses values that are well formed, which values.schema.json sees to, and
     still cannot work. Included by collector.yaml and exposer.yaml. */}}
{{- define "weir.check" -}}
{{- $store := .Values.store -}}
{{- if not .Values.cloudflare.tokenSecret.name -}}
{{- fail "cloudflare.tokenSecret.name is empty: create a Secret with a Cloudflare API token and name it" -}}
{{- end -}}
{{- if and (eq $store.driver "postgres") (not $store.postgres.urlSecret.name) -}}
{{- fail "store.postgres.urlSecret.name is empty: create a Secret with a postgres:// connection string and name it, or set store.driver to sqlite" -}}
{{- end -}}
{{- if ne (empty $store.postgres.ownerUrlSecret.name) (empty $store.postgres.writerRole) -}}
{{- fail "store.postgres.ownerUrlSecret and store.postgres.writerRole go together: the owner migrates and gives the writer, the user of urlSecret, its rights" -}}
{{- end -}}
{{- if and (eq $store.driver "sqlite") (gt (int (include "weir.collectorReplicas" .)) 1) -}}
{{- fail (printf "collector.replicas is %v: an SQLite file has one process; leave it out, or use store.driver postgres for a standby" .Values.collector.replicas) -}}
{{- end -}}
{{- if and .Values.monitoring.rules.enabled (not .Values.monitoring.own.serviceMonitor) -}}
{{- fail "monitoring.rules.enabled is true and monitoring.own.serviceMonitor is not: the alerts would fire for want of the metrics that it brings" -}}
{{- end -}}
{{- if and .Values.push.enabled (not .Values.push.destinationURL) -}}
{{- fail "push.destinationURL is empty: give the URL that takes the samples, with its path" -}}
{{- end -}}
{{- if .Values.monitoring.replay.kind -}}
{{- if .Values.exposer.settings.WEIR_EXPOSER_WEB_CONFIG_FILE -}}
{{- fail "exposer.settings.WEIR_EXPOSER_WEB_CONFIG_FILE: monitoring.replay.kind makes a scrape without TLS and credentials; leave one of them out" -}}
{{- end -}}
{{- $most := int (default 24 .Values.exposer.settings.CF_METRICS_REPLAY_HOURS) -}}
{{- if gt (int (default 0 .Values.monitoring.replay.hours)) $most -}}
{{- fail (printf "monitoring.replay.hours is %v: exposers replay %d hours (exposer.settings.CF_METRICS_REPLAY_HOURS) and would refuse it" .Values.monitoring.replay.hours $most) -}}
{{- end -}}
{{- end -}}
{{- $ours := dict
  "CF_API_TOKEN" "a secret does not belong into values; use cloudflare.tokenSecret"
  "WEIR_DATABASE_URL" "a secret does not belong into values; use store.postgres.urlSecret"
  "WEIR_COLLECTOR_TOKEN" "a secret does not belong into values; mount a Secret with extraVolumes and name its file in WEIR_COLLECTOR_TOKEN_FILE"
  "WEIR_GRPC_TOKEN" "a secret does not belong into values; mount a Secret with collector.extraVolumes and name its file in WEIR_GRPC_TOKEN_FILE"
  "WEIR_GRPC_ADMIN_TOKEN" "a secret does not belong into values; mount a Secret with collector.extraVolumes and name its file in WEIR_GRPC_ADMIN_TOKEN_FILE"
  "WEIR_PUSH_DESTINATION_TOKEN" "a secret does not belong into values; use push.tokenSecret"
  "WEIR_PUSH_DESTINATION_PASSWORD" "a secret does not belong into values; mount a Secret with push.extraVolumes and name its file in WEIR_PUSH_DESTINATION_PASSWORD_FILE"
  "WEIR_PUSH_DESTINATION_URL" "use push.destinationURL"
  "WEIR_PUSH_CURSOR_FILE" "the chart sets it, on its volume"
  "WEIR_CONFIG_FILE" "settings take the file's place"
  "WEIR_SQLITE_FILE" "the chart sets it; use store.driver and store.sqlite"
  "WEIR_MIGRATE" "the chart migrates in an init container"
  "WEIR_CATALOGUE_FILE" "the chart sets it; use collector.catalogue"
  "WEIR_DRAIN" "the chart sets it, and the pod's grace period with it; use drainSeconds"
  "WEIR_COLLECTOR_NAME" "each replica needs a name of its own, and makes one"
  "WEIR_COLLECTOR_ADDRESS" "the chart sets it to its own Service"
  "WEIR_COLLECTOR_LISTEN" "the chart's ports are fixed"
  "WEIR_COLLECTOR_OPS_LISTEN" "the chart's ports are fixed"
  "WEIR_EXPOSER_LISTEN" "the chart's ports are fixed"
  "WEIR_EXPOSER_OPS_LISTEN" "the chart's ports are fixed"
  "WEIR_PUSH_OPS_LISTEN" "the chart's ports are fixed"
  "WEIR_COLLECTOR_WEB_CONFIG_FILE" "the probes read the operations port without TLS and credentials"
  "WEIR_EXPOSER_OPS_WEB_CONFIG_FILE" "the probes read the operations port without TLS and credentials"
  "WEIR_PUSH_OPS_WEB_CONFIG_FILE" "the probes read the operations port without TLS and credentials"
-}}
{{- range $component := list "collector" "exposer" "push" -}}
{{- range $name, $value := (index $.Values $component).settings -}}
{{- if hasKey $ours $name -}}
{{- fail (printf "%s.settings.%s: %s" $component $name (get $ours $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
