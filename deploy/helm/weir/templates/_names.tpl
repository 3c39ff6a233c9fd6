{{- define "weir.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 letters leave room for "-collector" and the hash that pods get. A Service's name has no
     dot, which that of a release may have. */}}
{{- define "weir.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "weir.name" .) .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "weir.name" .) | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Call with (list $ "collector"); without a component: (list $ ""). */}}
{{- define "weir.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "weir.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: without a version, since a changed label replaces every pod. Call with
     (list $ "collector" LABELS); LABELS are more of them, which go before commonLabels, and
     those before the chart's: a label may not be there twice. */}}
{{- define "weir.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "weir.selectorLabels" . }}
{{ merge (dict) (default dict (index . 2)) (default dict $root.Values.commonLabels) (dict "app.kubernetes.io/part-of" "weir") | toYaml }}
{{- end -}}

{{/* Labels of other objects. Call with (list $ "collector") or (list $ "collector" LABELS). */}}
{{- define "weir.labels" -}}
{{- $root := index . 0 -}}
{{- $more := dict -}}
{{- if gt (len .) 2 -}}
{{- $more = default dict (index . 2) -}}
{{- end -}}
{{- $own := dict
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_")
-}}
{{ include "weir.podLabels" (list $root (index . 1) (merge (dict) $more (default dict $root.Values.commonLabels) $own)) }}
{{- end -}}

{{- define "weir.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "weir.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "weir.image" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}/{{ index . 1 }}
{{- /* A tag of digits alone arrives as a number. */}}
{{- with get (default dict $image.digests) (index . 1) }}@{{ . }}{{ else }}:{{ default $root.Chart.AppVersion (include "weir.settingText" $image.tag) }}{{ end }}
{{- end -}}

{{/* The component whose pods answer on the exposer's ports. */}}
{{- define "weir.servingComponent" -}}
{{- ternary "exposer" "collector" (eq .Values.mode "ha") -}}
{{- end -}}

{{- define "weir.collectorAddress" -}}
{{ include "weir.fullname" . }}-collector.{{ .Release.Namespace }}.svc:9820
{{- end -}}

{{- define "weir.exposerAddress" -}}
{{ include "weir.fullname" . }}-exposer.{{ .Release.Namespace }}.svc:{{ int .Values.exposer.service.port }}
{{- end -}}

{{/* The Service of the operations port of exposers. */}}
{{- define "weir.exposerOps" -}}
{{ include "weir.fullname" . }}-exposer{{ if ne .Values.exposer.service.type "ClusterIP" }}-ops{{ end }}
{{- end }}

{{/* The port of Postgres that collectors may reach: of the policy, else of the store. */}}
{{- define "weir.postgresPort" -}}
{{- $own := ternary .Values.store.postgres.port 5432 (ne .Values.store.postgres.host "") -}}
{{- int (default $own .Values.networkPolicy.postgresPort) -}}
{{- end }}
