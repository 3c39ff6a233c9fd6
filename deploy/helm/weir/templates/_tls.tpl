{{/* The Secrets of tls: those that are named, else those that cert-manager fills. */}}
{{- define "weir.tlsSecret" -}}
{{- $root := index . 0 -}}
{{- $side := index . 1 -}}
{{- default (printf "%s-%s-tls" (include "weir.fullname" $root) $side) (index $root.Values.tls (printf "%sSecret" $side)) -}}
{{- end -}}

{{/* Each side has its own key and certificate, and the authority of the other side. Call with
     (list $ "collector" "client"): own side, other side. */}}
{{- define "weir.tlsVolume" -}}
{{- $root := index . 0 -}}
- name: stream-tls
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ include "weir.tlsSecret" (list $root (index . 1)) }}
          items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
      - secret:
          name: {{ include "weir.tlsSecret" (list $root (index . 2)) }}
          items: [{key: ca.crt, path: ca.crt}]
{{- end -}}

{{- define "weir.tlsMount" -}}
- {name: stream-tls, mountPath: /etc/weir/stream-tls, readOnly: true}
{{- end -}}

{{/* Settings of a collector. */}}
{{- define "weir.tlsServerEnv" -}}
- name: WEIR_GRPC_CERT_FILE
  value: /etc/weir/stream-tls/tls.crt
- name: WEIR_GRPC_KEY_FILE
  value: /etc/weir/stream-tls/tls.key
- name: WEIR_GRPC_CLIENT_CA_FILE
  value: /etc/weir/stream-tls/ca.crt
{{- end -}}

{{/* Settings of exposer, push and doctor, but for those of a list of names. */}}
{{- define "weir.tlsClientEnv" -}}
{{- $all := list -}}
{{- range $name, $value := dict "WEIR_COLLECTOR_TLS" "true" "WEIR_COLLECTOR_CERT_FILE" "/etc/weir/stream-tls/tls.crt" "WEIR_COLLECTOR_KEY_FILE" "/etc/weir/stream-tls/tls.key" "WEIR_COLLECTOR_CA_FILE" "/etc/weir/stream-tls/ca.crt" -}}
{{- if not (has $name $) -}}
{{- $all = append $all (dict "name" $name "value" $value) -}}
{{- end -}}
{{- end -}}
{{- with $all }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Refuses what contradicts itself. Included by weir.check. */}}
{{- define "weir.checkTLS" -}}
{{- $tls := .Values.tls -}}
{{- $cm := $tls.certManager -}}
{{- if not $tls.enabled -}}
{{- if or $cm.enabled $tls.collectorSecret $tls.clientSecret -}}
{{- fail (printf "tls.%s is set and tls.enabled is false: set it to true, or leave the other out" (ternary "certManager.enabled" (ternary "collectorSecret" "clientSecret" (ne $tls.collectorSecret "")) $cm.enabled)) -}}
{{- end -}}
{{- else -}}
{{- if ne .Values.mode "ha" -}}
{{- fail "tls.enabled is true and mode is standalone, in which collector and exposer are one process: set mode to ha, or tls.enabled to false" -}}
{{- end -}}
{{- if and $cm.enabled (or $tls.collectorSecret $tls.clientSecret) -}}
{{- fail (printf "tls.certManager.enabled is true and tls.%s is set: name both Secrets of yours, or let cert-manager fill its own" (ternary "collectorSecret" "clientSecret" (ne $tls.collectorSecret ""))) -}}
{{- end -}}
{{- if and $cm.enabled (not $cm.issuerRef.name) -}}
{{- fail "tls.certManager.issuerRef.name is empty: name an Issuer or ClusterIssuer of cert-manager that signs for names inside the cluster, such as one of the type ca" -}}
{{- end -}}
{{- if and $cm.enabled (ge (int (trimSuffix "h" $cm.renewBefore)) (int (trimSuffix "h" $cm.duration))) -}}
{{- fail (printf "tls.certManager.renewBefore is %s and duration %s: it must be less, or certificates are renewed without end" $cm.renewBefore $cm.duration) -}}
{{- end -}}
{{- if and (not $cm.enabled) (not (and $tls.collectorSecret $tls.clientSecret)) -}}
{{- fail "tls.enabled is true: name both tls.collectorSecret and tls.clientSecret, or set tls.certManager.enabled" -}}
{{- end -}}
{{- range $component, $names := dict
  "collector" (list "WEIR_GRPC_CERT_FILE" "WEIR_GRPC_KEY_FILE" "WEIR_GRPC_CLIENT_CA_FILE")
  "exposer" (list "WEIR_COLLECTOR_TLS" "WEIR_COLLECTOR_CA_FILE" "WEIR_COLLECTOR_CERT_FILE" "WEIR_COLLECTOR_KEY_FILE")
  "push" (list "WEIR_COLLECTOR_TLS" "WEIR_COLLECTOR_CA_FILE" "WEIR_COLLECTOR_CERT_FILE" "WEIR_COLLECTOR_KEY_FILE")
-}}
{{- range $name := $names -}}
{{- if hasKey (default dict (index $.Values $component).settings) $name -}}
{{- fail (printf "%s.settings.%s: tls.enabled is true, and the chart sets it; leave one of them out" $component $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
