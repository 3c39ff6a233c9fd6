{{/* The rules of files/weir.rules.yaml, which is deploy/alerts/weir.rules.yaml,
     each selector narrowed to this release. */}}
{{- define "weir.alerts" -}}
{{- $fullname := include "weir.fullname" . -}}
{{- $namespace := printf "namespace=%q, " .Release.Namespace -}}
{{- $labels := .Values.monitoring.rules.labels -}}
{{- $doc := .Files.Get "files/weir.rules.yaml" | fromYaml -}}
{{- range $group := $doc.groups -}}
{{- $_ := set $group "name" $fullname -}}
{{- range $rule := $group.rules -}}
{{- $expr := $rule.expr -}}
{{- $expr = regexReplaceAll `(weir_(collector|exposer|push)_[a-z_]+){` $expr (printf `${1}{%sjob="%s-${2}", ` $namespace $fullname) -}}
{{- $expr = regexReplaceAll `(weir_(secret|simulated)[a-z_]*){` $expr (printf `${1}{%sjob=~"%s-(collector|exposer|push)", ` $namespace $fullname) -}}
{{- $expr = $expr | replace `up{job=~".*weir.*"` (printf `up{%sjob=~"%s-(collector|exposer|push)"` $namespace $fullname) -}}
{{- $_ := set $rule "expr" ($expr | replace ", }" "}") -}}
{{- $_ := set $rule "labels" (merge (dict) $rule.labels $labels) -}}
{{- with $.Values.monitoring.rules.runbookURL -}}
{{- $_ := set $rule.annotations "runbook_url" (regexReplaceAllLiteral `^[^#]*` $rule.annotations.runbook_url .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ toYaml $doc }}
{{- end -}}
