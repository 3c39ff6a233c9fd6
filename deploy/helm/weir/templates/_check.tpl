{{/* Refuses values that are well formed, which values.schema.json sees to, and
     still cannot work. Included by collector.yaml and exposer.yaml. */}}
{{- define "weir.check" -}}
{{- $store := .Values.store -}}
{{- $ha := eq .Values.mode "ha" -}}
{{- if hasKey $store "driver" -}}
{{- fail (printf "store.driver is %v: the chart has mode instead. Set mode to %s and leave store.driver out; the data stays (README, upgrade)" $store.driver (ternary "standalone" "ha" (eq (toString $store.driver) "sqlite"))) -}}
{{- end -}}
{{- if and (not .Values.cloudflare.tokenSecret.name) (not .Values.cloudflare.credentials) -}}
{{- fail "cloudflare.tokenSecret.name is empty: create a Secret with a Cloudflare API token and name it, or list several in cloudflare.credentials" -}}
{{- end -}}
{{- if and .Values.cloudflare.tokenSecret.name .Values.cloudflare.credentials -}}
{{- fail "cloudflare.tokenSecret.name and cloudflare.credentials are both set: leave one of them out" -}}
{{- end -}}
{{- $apart := or $store.postgres.host $store.postgres.userSecret.name $store.postgres.passwordSecret.name -}}
{{- if $ha -}}
{{- if and (not $store.postgres.urlSecret.name) (not $apart) -}}
{{- fail "store.postgres.urlSecret.name is empty: create a Secret with a postgres:// connection string and name it, or give host, userSecret and passwordSecret, or set mode to standalone" -}}
{{- end -}}
{{- if and $store.postgres.urlSecret.name $apart -}}
{{- fail "store.postgres.urlSecret and store.postgres.host are both set: give the connection string, or its parts" -}}
{{- end -}}
{{- if and $apart (not (and $store.postgres.host $store.postgres.userSecret.name $store.postgres.passwordSecret.name)) -}}
{{- fail "store.postgres.host, userSecret.name and passwordSecret.name go together: one of them is empty" -}}
{{- end -}}
{{- else -}}
{{- if or $store.postgres.urlSecret.name $apart -}}
{{- fail "store.postgres is set and mode is standalone, which stores in a SQLite file: set mode to ha, or leave store.postgres out" -}}
{{- end -}}
{{- if .Values.push.enabled -}}
{{- fail "push.enabled is true and mode is standalone, whose collector is not reached from other pods: set mode to ha" -}}
{{- end -}}
{{- if .Values.doctor.enabled -}}
{{- fail "doctor.enabled is true and mode is standalone, whose collector is not reached from other pods: set it to false and run the doctor in the pod, as the install notes say" -}}
{{- end -}}
{{- if .Values.exposer.autoscaling.enabled -}}
{{- fail "exposer.autoscaling.enabled is true and mode is standalone, which has one pod: set mode to ha" -}}
{{- end -}}
{{- range $name := list "WEIR_GRPC_CERT_FILE" "WEIR_GRPC_KEY_FILE" "WEIR_GRPC_CLIENT_CA_FILE" "WEIR_GRPC_TOKEN_FILE" "WEIR_GRPC_REFLECTION" "WEIR_POSTGRES_POOLER" -}}
{{- if hasKey $.Values.collector.settings $name -}}
{{- fail (printf "collector.settings.%s: mode is standalone, whose collector is reached inside its pod only; set mode to ha" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := .Values.exposer.settings -}}
{{- if hasPrefix "WEIR_COLLECTOR_" $name -}}
{{- fail (printf "exposer.settings.%s: mode is standalone, in which collector and exposer are one process; set mode to ha" $name) -}}
{{- end -}}
{{- end -}}
{{- /* They would have no effect. */ -}}
{{- range $name := list "extraEnv" "extraEnvFrom" "lifecycle" "extraVolumes" "extraVolumeMounts" "podAnnotations" "podLabels" "nodeSelector" "tolerations" "topologySpreadConstraints" "affinity" "priorityClassName" -}}
{{- if index $.Values.exposer $name -}}
{{- fail (printf "exposer.%s is set and mode is standalone, whose one pod has what collector.%s says: set that, or mode to ha" $name $name) -}}
{{- end -}}
{{- end -}}
{{- include "weir.checkVolume" . -}}
{{- end -}}
{{- if ne (empty $store.postgres.ownerUrlSecret.name) (empty $store.postgres.writerRole) -}}
{{- fail "store.postgres.ownerUrlSecret and store.postgres.writerRole go together: the owner migrates and gives the writer, the user of urlSecret, its rights" -}}
{{- end -}}
{{- if and (not $ha) (gt (int (include "weir.collectorReplicas" .)) 1) -}}
{{- fail (printf "collector.replicas is %v: an SQLite file has one process; leave it out, or set mode to ha for a standby" .Values.collector.replicas) -}}
{{- end -}}
{{- if and .Values.monitoring.rules.enabled (not .Values.monitoring.own.serviceMonitor) -}}
{{- fail "monitoring.rules.enabled is true and monitoring.own.serviceMonitor is not: the alerts would fire for want of the metrics that it brings" -}}
{{- end -}}
{{- if and .Values.push.enabled (not .Values.push.destinationURL) -}}
{{- fail "push.destinationURL is empty: give the URL that takes the samples, with its path" -}}
{{- end -}}
{{- $monitoring := .Values.monitoring -}}
{{- if and $monitoring.replay.kind .Values.exposer.settings.WEIR_EXPOSER_WEB_CONFIG_FILE (eq $monitoring.replay.scheme "http") (not $monitoring.replay.basicAuth) -}}
{{- fail "exposer.settings.WEIR_EXPOSER_WEB_CONFIG_FILE: the scrape of monitoring.replay.kind has neither TLS nor credentials; set monitoring.replay.scheme, tlsConfig and basicAuth as the file demands" -}}
{{- end -}}
{{- if and $monitoring.replay.kind .Values.exposer.settings.WEIR_EXPOSER_TOKENS_FILE (not $monitoring.replay.authorization) -}}
{{- fail "exposer.settings.WEIR_EXPOSER_TOKENS_FILE: the scrape of monitoring.replay.kind has no token; set monitoring.replay.authorization" -}}
{{- end -}}
{{- if and $monitoring.counters.enabled (eq (toString .Values.exposer.settings.WEIR_EXPOSER_COUNTERS) "false") -}}
{{- fail "exposer.settings.WEIR_EXPOSER_COUNTERS is false and monitoring.counters.enabled is true: set the latter to false too" -}}
{{- end -}}
{{- if and $ha $monitoring.counters.enabled (eq $monitoring.replay.kind "ServiceMonitor") -}}
{{- fail "monitoring.counters.enabled is true and monitoring.replay.kind is ServiceMonitor, which scrapes each exposer by itself: samples of one counter from two clocks look like resets. Set replay.kind to ScrapeConfig, or counters.enabled to false" -}}
{{- end -}}
{{- if and $monitoring.compat.enabled (ne (toString .Values.exposer.settings.WEIR_EXPOSER_COMPAT) "lablabs") -}}
{{- fail "monitoring.compat.enabled is true and exposers do not serve the page: set exposer.settings.WEIR_EXPOSER_COMPAT to lablabs" -}}
{{- end -}}
{{- if and $ha $monitoring.compat.enabled (eq $monitoring.replay.kind "ServiceMonitor") -}}
{{- fail "monitoring.compat.enabled is true and monitoring.replay.kind is ServiceMonitor, which scrapes each exposer by itself: samples of one counter from two clocks look like resets. Set replay.kind to ScrapeConfig, or compat.enabled to false" -}}
{{- end -}}
{{- if and (eq (toString .Values.exposer.settings.WEIR_EXPOSER_COMPAT) "lablabs") (eq (toString .Values.exposer.settings.WEIR_EXPOSER_COUNTERS) "false") -}}
{{- fail "exposer.settings.WEIR_EXPOSER_COMPAT is lablabs and WEIR_EXPOSER_COUNTERS is false: the page needs counters" -}}
{{- end -}}
{{- include "weir.checkTLS" . -}}
{{- $service := .Values.exposer.service -}}
{{- if and $service.nodePort (eq $service.type "ClusterIP") -}}
{{- fail (printf "exposer.service.nodePort is %v and exposer.service.type is ClusterIP: set the type to NodePort or LoadBalancer" $service.nodePort) -}}
{{- end -}}
{{- if and $service.loadBalancerClass (ne $service.type "LoadBalancer") -}}
{{- fail (printf "exposer.service.loadBalancerClass is %s and exposer.service.type is %s: set the type to LoadBalancer" $service.loadBalancerClass $service.type) -}}
{{- end -}}
{{- $_ := include "weir.replayHours" . -}}
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
  "WEIR_CONFIG_FILE" "settings take the file's place, and cloudflare.credentials"
  "WEIR_SQLITE_FILE" "the chart sets it; use store.sqlite"
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

{{/* Kubernetes changes little of a StatefulSet. What it would refuse is refused here, with
     what to do. */}}
{{- define "weir.checkVolume" -}}
{{- $name := printf "%s-collector" (include "weir.fullname" .) -}}
{{- $ns := .Release.Namespace -}}
{{- $again := printf "kubectl -n %s delete statefulset %s --cascade=orphan (pod, volume and data stay), then upgrade again" $ns $name -}}
{{- with lookup "apps/v1" "StatefulSet" $ns $name -}}
{{- if ne (default "OrderedReady" .spec.podManagementPolicy) "Parallel" -}}
{{- fail (printf "the StatefulSet %s is of an earlier version of the chart and cannot be changed in place. Once: %s" $name $again) -}}
{{- end -}}
{{- $size := "" -}}
{{- range .spec.volumeClaimTemplates -}}
{{- $size = .spec.resources.requests.storage -}}
{{- end -}}
{{- $wanted := ternary "" $.Values.store.sqlite.size (ne $.Values.store.sqlite.existingClaim "") -}}
{{- if ne (empty $size) (empty $wanted) -}}
{{- fail (printf "store.sqlite.existingClaim was set or removed, which Kubernetes refuses for the StatefulSet %s. %s" $name $again) -}}
{{- end -}}
{{- if and $size (ne (include "weir.bytes" $size) (include "weir.bytes" $wanted)) -}}
{{- fail (printf "store.sqlite.size is %s and the StatefulSet %s has %s, which Kubernetes does not change. Set %s again; or, if the storage class can grow volumes: kubectl -n %s patch pvc data-%s-0 -p '{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"%s\"}}}}', %s" $wanted $name $size $size $ns $name $wanted $again) -}}
{{- end -}}
{{- end -}}
{{- end -}}
