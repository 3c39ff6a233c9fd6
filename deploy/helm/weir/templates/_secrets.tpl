{{/* Where the Cloudflare tokens are. */}}
{{- define "weir.tokenMounts" -}}
{{- if .Values.cloudflare.credentials -}}
- {name: config, mountPath: /etc/weir/config, readOnly: true}
{{- range .Values.cloudflare.credentials }}
- {name: credential-{{ .name }}, mountPath: /etc/weir/credentials/{{ .name }}, readOnly: true}
{{- end }}
{{- else -}}
- {name: cloudflare, mountPath: /etc/weir/cloudflare, readOnly: true}
{{- end -}}
{{- end -}}

{{- define "weir.tokenVolumes" -}}
{{- if .Values.cloudflare.credentials -}}
- name: config
  configMap: {name: {{ include "weir.fullname" . }}-collector-config}
{{- range .Values.cloudflare.credentials }}
- name: credential-{{ .name }}
  {{- include "weir.secretVolume" .tokenSecret | nindent 2 }}
{{- end }}
{{- else -}}
- name: cloudflare
  {{- include "weir.secretVolume" .Values.cloudflare.tokenSecret | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* The database: a connection string as a file, which is reloaded, or host, user and
     password apart. */}}
{{- define "weir.databaseEnv" -}}
{{- $pg := .Values.store.postgres -}}
{{- if $pg.urlSecret.name -}}
- name: WEIR_DATABASE_URL_FILE
  value: /etc/weir/postgres/{{ $pg.urlSecret.key }}
{{- else -}}
{{- /* The driver takes what a URL leaves out from these variables, as they are: a
       password needs no escapes. */ -}}
- name: WEIR_DATABASE_URL
  value: postgres://{{ $pg.host }}:{{ int $pg.port }}/{{ $pg.database }}?sslmode={{ $pg.sslMode }}
- name: PGUSER
  valueFrom: {secretKeyRef: {name: {{ $pg.userSecret.name }}, key: {{ $pg.userSecret.key }}}}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: {{ $pg.passwordSecret.name }}, key: {{ $pg.passwordSecret.key }}}}
{{- end -}}
{{- end -}}
