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
  expr: weir_exposer_progress_lag_seconds{ {{- .exposer -}} } > 120
  for: 2m
  labels: {{ merge (dict "severity" "warning") .labels | toJson }}
  annotations:
    summary: {{ "Exposer {{ $labels.pod }} has heard of no leading collector for {{ $value | humanizeDuration }}." | quote }}
    description: No collector leads, or the stream from it stands still. What is served stays right, but grows old.
- alert: WeirDataLate
  expr: time() - min by (dataset) (weir_collector_complete_until_timestamp_seconds{ {{- .collector -}} , dataset=~".+_[0-9]+m"}) > 3600
  for: 10m
  labels: {{ merge (dict "severity" "warning") .labels | toJson }}
  annotations:
    summary: {{ "{{ $labels.dataset }} is complete until {{ $value | humanizeDuration }} ago only." | quote }}
    description: A collector leads, but data is late. weir_collector_gap_windows has the reasons.
- alert: WeirBudgetShort
  expr: max(weir_collector_budget_needed_requests{ {{- .collector -}} }) > max(weir_collector_budget_share_requests{ {{- .collector -}} })
  for: 3m
  labels: {{ merge (dict "severity" "warning") .labels | toJson }}
  annotations:
    summary: {{ "The selected zones and datasets need {{ $value | humanize }} requests in five minutes, more than the share of the budget." | quote }}
    description: Data will be late. The collector's log and GetStatus say what to change (BUDGET_SHORT).
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
