{{/* Metadata of an object of the Prometheus operator. Call with
     (list $ NAME COMPONENT LABELS); LABELS besides monitoring.labels. */}}
{{- define "weir.monitorMeta" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
{{- with $root.Values.monitoring.namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "weir.labels" (list $root (index . 2) (merge (dict) (default dict (index . 3)) (default dict $root.Values.monitoring.labels))) | nindent 2 }}
{{- end -}}

{{/* The Services of a release, from another namespace if the monitor is in one. */}}
{{- define "weir.monitorSelector" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.monitoring.namespace }}
namespaceSelector:
  matchNames: [{{ $root.Release.Namespace }}]
{{- end }}
selector:
  matchLabels:
    {{- include "weir.selectorLabels" . | nindent 4 }}
{{- end -}}

{{/* Hours of the replay that a scrape asks for: the window of Prometheus less a margin of
     six hours, and no more than exposers show. Without a window only the newest buckets. */}}
{{- define "weir.replayHours" -}}
{{- $window := .Values.prometheus.outOfOrderTimeWindow -}}
{{- if not $window -}}
0
{{- else -}}
{{- $minutes := 0 -}}
{{- range $unit, $size := dict "m" 1 "h" 60 "d" 1440 "w" 10080 -}}
{{- with regexFind (printf "[0-9]+%s" $unit) $window -}}
{{- $minutes = add $minutes (mul $size (int (trimSuffix $unit .))) -}}
{{- end -}}
{{- end -}}
{{- if lt $minutes 480 -}}
{{- fail (printf "prometheus.outOfOrderTimeWindow is %s: it must be at least 8h, of which 6 h are the margin for buckets that are late; 30h shows a day. Leave it out to scrape the newest buckets only" $window) -}}
{{- end -}}
{{- $most := int (include "weir.settingText" (default 24 (default dict .Values.exposer.settings).CF_METRICS_REPLAY_HOURS)) -}}
{{- min (div (sub $minutes 360) 60) $most -}}
{{- end -}}
{{- end -}}

{{/* The parts that ScrapeConfig and the endpoint of a ServiceMonitor have in common. Call
     with (list $ PAGE), where PAGE is monitoring.replay, counters or compat. Scheme, TLS
     and credentials are those of the data port, and so of the replay. */}}
{{- define "weir.scrape" -}}
{{- $root := index . 0 -}}
{{- $page := index . 1 -}}
{{- $port := $root.Values.monitoring.replay -}}
scheme: {{ $port.scheme }}
{{- with $port.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $port.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $port.authorization }}
authorization:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $page.relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* One series, whichever exposer answered: else each has a copy and every sum
       counts it. These and not "relabelings", which would join the targets' up too.
       namespace and service say nothing more, and without them the labels are
       those of every other way in: a plain Prometheus, a backfill. */}}
metricRelabelings:
  - {targetLabel: job, replacement: {{ $page.job | quote }}}
  - {targetLabel: instance, replacement: {{ $page.job | quote }}}
  - {action: labeldrop, regex: pod|endpoint|container|node|namespace|service}
  {{- with $page.metricRelabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What the replay needs besides. */}}
{{- define "weir.replay" -}}
params:
  replay_hours: [{{ include "weir.replayHours" . | quote }}]
{{- /* The timestamps are the point. */}}
honorTimestamps: true
{{- /* A mark of staleness "now" would make the next bucket out of order. */}}
trackTimestampsStaleness: false
{{- end }}
