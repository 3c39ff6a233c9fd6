{{/* Alerts on the processes' own metrics. Call with collector and exposer, label
     matchers, and labels. */}}
{{- define "weir.alerts" -}}
- alert: WeirNoLeader
  expr: (sum(weir_collector_leader{ {{- .collector -}} }) or vector(0)) < 1
  for: 5m
  labels: {{ merge (dict "severity" "critical") .labels | toJson }}
  annotations:
    summary: No collector leads, so nothing is collected.
    description: Cloudflare keeps what is missing for days; collection catches up once a collector holds the lease.
- alert: WeirStoreAway
  expr: weir_collector_store_up{ {{- .collector -}} } == 0
  for: 5m
  labels: {{ merge (dict "severity" "critical") .labels | toJson }}
  annotations:
    summary: {{ "Collector {{ $labels.pod }} does not reach its store." | quote }}
- alert: WeirNoExposerReady
  expr: (sum(weir_exposer_ready{ {{- .exposer -}} }) or vector(0)) < 1
  for: 5m
  labels: {{ merge (dict "severity" "critical") .labels | toJson }}
  annotations:
    summary: No exposer is ready, so Prometheus gets no buckets.
- alert: WeirProgressLag
  expr: weir_exposer_progress_lag_seconds{ {{- .exposer -}} } > 900
  for: 10m
  labels: {{ merge (dict "severity" "warning") .labels | toJson }}
  annotations:
    summary: {{ "Exposer {{ $labels.pod }} is {{ $value | humanizeDuration }} behind." | quote }}
    description: The collector or the stream from it stands still. What is served stays right, but grows old.
- alert: WeirGapNearLoss
  expr: weir_collector_repair_deadline_timestamp_seconds{ {{- .collector -}} } - time() < 6 * 3600
  for: 5m
  labels: {{ merge (dict "severity" "warning") .labels | toJson }}
  annotations:
    summary: {{ "A gap of {{ $labels.dataset }} leaves Cloudflare's retention in {{ $value | humanizeDuration }}." | quote }}
- alert: WeirReplayRefused
  expr: weir_exposer_replay_refused{ {{- .exposer -}} } == 1
  for: 5m
  labels: {{ merge (dict "severity" "critical") .labels | toJson }}
  annotations:
    summary: {{ "Exposer {{ $labels.pod }} answers 503: the replay exceeds the hard limit of samples." | quote }}
{{- end -}}
