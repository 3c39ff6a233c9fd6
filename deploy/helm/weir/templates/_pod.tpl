{{/* What the pods of both components have in common. Call with (list $ "collector"). */}}
{{- define "weir.pod" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index $root.Values $component -}}
serviceAccountName: {{ include "weir.serviceAccountName" $root }}
automountServiceAccountToken: false
{{- /* A Service called weir-collector would put WEIR_COLLECTOR_… into the environment. */}}
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* The drain, then 15 s in which the last requests end, then lease and store. */}}
terminationGracePeriodSeconds: {{ add $values.drainSeconds 30 }}
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
{{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- else }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "weir.selectorLabels" (list $root $component) | nindent 8 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* null, not 0, is the default. */}}
{{- define "weir.collectorReplicas" -}}
{{- if kindIs "invalid" .Values.collector.replicas -}}
{{- ternary 2 1 (eq .Values.mode "ha") -}}
{{- else -}}
{{- int .Values.collector.replicas -}}
{{- end -}}
{{- end -}}

{{/* What every container has: image and the like. Call with (list $ IMAGE VALUES). */}}
{{- define "weir.container" -}}
{{- $root := index . 0 -}}
image: {{ include "weir.image" . | quote }}
{{- with $root.Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
securityContext:
  {{- toYaml $root.Values.containerSecurityContext | nindent 2 }}
{{- with index . 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
{{- with .lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Probes ask the process about itself; nothing here reaches Cloudflare. */}}
{{- define "weir.probes" -}}
startupProbe:
  httpGet: {path: /-/healthy, port: ops}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /-/healthy, port: ops}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /-/ready, port: ops}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{/* Environment from settings, then GOMEMLIMIT and extraEnv. Call with (list $ "collector"). */}}
{{- define "weir.env" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
- name: WEIR_DRAIN
  value: {{ printf "%ds" (int $values.drainSeconds) | quote }}
{{- $given := list -}}
{{- range $values.extraEnv }}{{ $given = append $given .name }}{{ end -}}
{{- with (($values.resources).limits).memory }}
{{- if not (has "GOMEMLIMIT" $given) }}
- name: GOMEMLIMIT
  value: {{ include "weir.goMemLimit" . }}
{{- end }}
{{- end }}
{{- $settings := default dict $values.settings -}}
{{- if and (eq (index . 1) "collector") (ne (index . 0).Values.mode "ha") -}}
{{- /* One process has the settings of both; where both give one, the collector's. */}}
{{- $settings = merge (dict) $settings (default dict (index . 0).Values.exposer.settings) -}}
{{- end -}}
{{- range $name, $value := $settings }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $name }}
  value: {{ include "weir.settingText" $value | quote }}
{{- end }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A setting as text. YAML's numbers arrive as floats, which print as 1e+06. An
     element with a comma in it stands in double quotes, as in a CSV file. */}}
{{- define "weir.settingText" -}}
{{- if kindIs "slice" . -}}
{{- $elements := list -}}
{{- range . -}}
{{- $element := toString . -}}
{{- if or (contains "," $element) (hasPrefix "\"" $element) -}}
{{- $element = printf "\"%s\"" (replace "\"" "\"\"" $element) -}}
{{- end -}}
{{- $elements = append $elements $element -}}
{{- end -}}
{{- join "," $elements -}}
{{- else if and (kindIs "float64" .) (eq . (floor .)) -}}
{{- int64 . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* 90 % of a memory limit such as 512Mi, in the form that Go reads. */}}
{{- define "weir.goMemLimit" -}}
{{- printf "%dMiB" (div (div (mul (int64 (include "weir.bytes" .)) 9) 10) 1048576) -}}
{{- end -}}

{{/* A quantity in bytes: Kubernetes stores 1024Gi as 1Ti. */}}
{{- define "weir.bytes" -}}
{{- $units := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "" 1 -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- mul (int64 (trimSuffix $unit .)) (get $units $unit) -}}
{{- end -}}

{{/* One key of a Secret as the file FOLDER/KEY. The whole volume is mounted, since
     a subPath would never see a rotated secret. */}}
{{- define "weir.secretVolume" -}}
secret:
  secretName: {{ .name }}
  defaultMode: 0440
  items:
    - {key: {{ .key | quote }}, path: {{ .key | quote }}}
{{- end -}}
