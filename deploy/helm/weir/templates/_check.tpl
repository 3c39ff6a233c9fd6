{{/* Refuses values that are well formed, which values.schema.json sees to, and
     still cannot work. Included by collector.yaml and exposer.yaml. */}}
{{- define "weir.check" -}}
{{- $store := .Values.store -}}
{{- $ha := eq .Values.mode "ha" -}}
{{- /* Null where a list of settings has nothing but comments. */ -}}
{{- $exposer := default dict .Values.exposer.settings -}}
{{- if hasKey $store "driver" -}}
{{- fail (printf "store.driver is %v: the chart has mode instead. Set mode to %s and leave store.driver out; the data stays (README, upgrade)" $store.driver (ternary "standalone" "ha" (eq (toString $store.driver) "sqlite"))) -}}
{{- end -}}
{{- if and (not .Values.cloudflare.tokenSecret.name) (not .Values.cloudflare.credentials) -}}
{{- fail "cloudflare.tokenSecret.name is empty: create a Secret with a Cloudflare API token and name it, or list several in cloudflare.credentials" -}}
{{- end -}}
{{- if and .Values.cloudflare.tokenSecret.name .Values.cloudflare.credentials -}}
{{- fail "cloudflare.tokenSecret.name and cloudflare.credentials are both set: leave one of them out" -}}
{{- end -}}
{{- $names := dict -}}
{{- range .Values.cloudflare.credentials -}}
{{- if hasKey $names .name -}}
{{- fail (printf "cloudflare.credentials has the name %s twice: each needs one of its own" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
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
{{- if hasKey (default dict $.Values.collector.settings) $name -}}
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
{{- range $name, $unused := dict "replicas" 2 "drainSeconds" 10 "resources" (dict "requests" (dict "cpu" "100m" "memory" "128Mi") "limits" (dict "memory" "512Mi")) -}}
{{- if ne (toJson (index $.Values.exposer $name)) (toJson $unused) -}}
{{- fail (printf "exposer.%s is set and mode is standalone, whose one pod has what collector.%s says: leave it out, or set mode to ha" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $ha ($store.sqlite).existingClaim -}}
{{- fail "store.sqlite.existingClaim is set and mode is ha, which stores in Postgres: leave it out, or set mode to standalone" -}}
{{- end -}}
{{- include "weir.checkLabels" . -}}
{{- include "weir.checkVariables" . -}}
{{- include "weir.checkScrapes" . -}}
{{- include "weir.checkInstalled" . -}}
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
{{- if and $monitoring.replay.kind $exposer.WEIR_EXPOSER_WEB_CONFIG_FILE (eq $monitoring.replay.scheme "http") (not $monitoring.replay.basicAuth) -}}
{{- fail "exposer.settings.WEIR_EXPOSER_WEB_CONFIG_FILE: the scrape of monitoring.replay.kind has neither TLS nor credentials; set monitoring.replay.scheme, tlsConfig and basicAuth as the file demands" -}}
{{- end -}}
{{- if and $monitoring.replay.kind $exposer.WEIR_EXPOSER_TOKENS_FILE (not $monitoring.replay.authorization) -}}
{{- fail "exposer.settings.WEIR_EXPOSER_TOKENS_FILE: the scrape of monitoring.replay.kind has no token; set monitoring.replay.authorization" -}}
{{- end -}}
{{- if and $monitoring.counters.enabled (eq (toString $exposer.WEIR_EXPOSER_COUNTERS) "false") -}}
{{- fail "exposer.settings.WEIR_EXPOSER_COUNTERS is false and monitoring.counters.enabled is true: set the latter to false too" -}}
{{- end -}}
{{- if and $ha $monitoring.counters.enabled (eq $monitoring.replay.kind "ServiceMonitor") -}}
{{- fail "monitoring.counters.enabled is true and monitoring.replay.kind is ServiceMonitor, which scrapes each exposer by itself: samples of one counter from two clocks look like resets. Set replay.kind to ScrapeConfig, or counters.enabled to false" -}}
{{- end -}}
{{- if and $monitoring.compat.enabled (ne (toString $exposer.WEIR_EXPOSER_COMPAT) "lablabs") -}}
{{- fail "monitoring.compat.enabled is true and exposers do not serve the page: set exposer.settings.WEIR_EXPOSER_COMPAT to lablabs" -}}
{{- end -}}
{{- if and $ha $monitoring.compat.enabled (eq $monitoring.replay.kind "ServiceMonitor") -}}
{{- fail "monitoring.compat.enabled is true and monitoring.replay.kind is ServiceMonitor, which scrapes each exposer by itself: samples of one counter from two clocks look like resets. Set replay.kind to ScrapeConfig, or compat.enabled to false" -}}
{{- end -}}
{{- if and (eq (toString $exposer.WEIR_EXPOSER_COMPAT) "lablabs") (eq (toString $exposer.WEIR_EXPOSER_COUNTERS) "false") -}}
{{- fail "exposer.settings.WEIR_EXPOSER_COMPAT is lablabs and WEIR_EXPOSER_COUNTERS is false: the page needs counters" -}}
{{- end -}}
{{- include "weir.checkTLS" . -}}
{{- $service := .Values.exposer.service -}}
{{- if and $service.nodePort (eq $service.type "ClusterIP") -}}
{{- fail (printf "exposer.service.nodePort is %v and exposer.service.type is ClusterIP: set the type to NodePort or LoadBalancer" $service.nodePort) -}}
{{- end -}}
{{- if and (eq $service.type "ClusterIP") (eq (int $service.port) 9811) -}}
{{- fail "exposer.service.port is 9811, which is the operations port of the same Service: choose another one" -}}
{{- end -}}
{{- $scaling := .Values.exposer.autoscaling -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "exposer.autoscaling.minReplicas is %v and maxReplicas %v: it must not be more" $scaling.minReplicas $scaling.maxReplicas) -}}
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

{{/* The labels by which pods are found are the chart's. */}}
{{- define "weir.checkLabels" -}}
{{- $all := dict "commonLabels" .Values.commonLabels -}}
{{- range $component := list "collector" "exposer" "push" "doctor" -}}
{{- $_ := set $all (printf "%s.podLabels" $component) (index $.Values $component).podLabels -}}
{{- end -}}
{{- range $where, $labels := $all -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/managed-by" -}}
{{- if hasKey (default dict $labels) $label -}}
{{- fail (printf "%s has the label %s, which the chart sets: Services find pods by such labels, and Helm its objects; choose another name" $where $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A variable may not be there twice. */}}
{{- define "weir.checkVariables" -}}
{{- range $component := list "collector" "exposer" "push" -}}
{{- $values := index $.Values $component -}}
{{- range $values.extraEnv -}}
{{- if hasKey (default dict $values.settings) .name -}}
{{- fail (printf "%s.extraEnv and %s.settings both have %s: leave one of them out" $component $component .name) -}}
{{- end -}}
{{- if eq .name "WEIR_DRAIN" -}}
{{- fail (printf "%s.extraEnv has WEIR_DRAIN, which the chart sets with the pod's grace period: use %s.drainSeconds" $component $component) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What Prometheus or its operator would refuse, the latter without a word in the release. */}}
{{- define "weir.checkScrapes" -}}
{{- $monitoring := .Values.monitoring -}}
{{- range $name := list "replay" "counters" "compat" -}}
{{- $page := index $monitoring $name -}}
{{- if or (eq $name "replay") $page.enabled -}}
{{- if gt (int (include "weir.milliseconds" $page.scrapeTimeout)) (int (include "weir.milliseconds" $page.interval)) -}}
{{- fail (printf "monitoring.%s.scrapeTimeout is %s and interval %s, and Prometheus refuses a timeout that is longer: set both" $name $page.scrapeTimeout $page.interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $interval := $monitoring.replay.interval -}}
{{- if and .Values.prometheus.outOfOrderTimeWindow (ge (int (include "weir.milliseconds" $interval)) 300000) -}}
{{- fail (printf "monitoring.replay.interval is %s: it must be less than 5m, for which a page of older windows is shown" $interval) -}}
{{- end -}}
{{- end -}}

{{/* A duration of one unit, such as 30s. */}}
{{- define "weir.milliseconds" -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- mul (int64 (trimSuffix $unit .)) (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit) -}}
{{- end -}}

{{/* What an upgrade would do to a release that is there, and Kubernetes would refuse or would
     leave the history behind. Nothing is seen of it by helm template. */}}
{{- define "weir.checkInstalled" -}}
{{- $ns := .Release.Namespace -}}
{{- $name := printf "%s-collector" (include "weir.fullname" .) -}}
{{- $ha := eq .Values.mode "ha" -}}
{{- $sqlite := .Values.store.sqlite -}}
{{- $kind := ternary "StatefulSet" "Deployment" $ha -}}
{{- if lookup "apps/v1" $kind $ns $name -}}
{{- fail (printf "mode is %s and the release has mode %s, whose history is not moved: a new one begins with what Cloudflare still has. If that is wanted, once: kubectl -n %s delete %s %s (%s), then upgrade again" .Values.mode (ternary "standalone" "ha" $ha) $ns (lower $kind) $name (ternary "its volume stays" "its database stays" $ha)) -}}
{{- end -}}
{{- if not $ha -}}
{{- range (lookup "apps/v1" "StatefulSet" $ns "").items -}}
{{- $labels := default dict .metadata.labels -}}
{{- if and (ne .metadata.name $name) (eq (toString (get $labels "app.kubernetes.io/instance")) $.Release.Name) (eq (toString (get $labels "app.kubernetes.io/component")) "collector") (regexMatch (printf "^%s-[0-9]+[.]" (regexQuoteMeta $.Chart.Name)) (toString (get $labels "helm.sh/chart"))) -}}
{{- fail (printf "the release has the StatefulSet %s, and with nameOverride and fullnameOverride as they are it would be %s, on a new volume without the history. Set them as before; or, to keep the history under the new name, name the claim of the old one in store.sqlite.existingClaim, and once: kubectl -n %s delete statefulset %s, then upgrade again" .metadata.name $name $ns .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- include "weir.checkVolume" (list . $name "store.sqlite" $sqlite) -}}
{{- end -}}
{{- if .Values.push.enabled -}}
{{- $volume := .Values.push.volume -}}
{{- include "weir.checkVolume" (list . (printf "%s-push" (include "weir.fullname" .)) "push.volume" $volume) -}}
{{- end -}}
{{- end -}}

{{/* Kubernetes changes little of a StatefulSet. What it would refuse is refused here, with
     what to do. Call with (list $ STATEFULSET PATH VALUES), where VALUES at PATH are those of
     its volume. */}}
{{- define "weir.checkVolume" -}}
{{- $ns := (index . 0).Release.Namespace -}}
{{- $name := index . 1 -}}
{{- $path := index . 2 -}}
{{- $values := index . 3 -}}
{{- $again := printf "kubectl -n %s delete statefulset %s --cascade=orphan (pod, volume and data stay), then upgrade again" $ns $name -}}
{{- with lookup "apps/v1" "StatefulSet" $ns $name -}}
{{- if ne (default "OrderedReady" .spec.podManagementPolicy) "Parallel" -}}
{{- fail (printf "the StatefulSet %s is of an earlier version of the chart and cannot be changed in place. Once: %s" $name $again) -}}
{{- end -}}
{{- $claim := dict -}}
{{- range .spec.volumeClaimTemplates -}}
{{- $claim = .spec -}}
{{- end -}}
{{- if ne (empty $claim) (ne (default "" $values.existingClaim) "") -}}
{{- fail (printf "%s.existingClaim was set or removed, which Kubernetes refuses for the StatefulSet %s. %s" $path $name $again) -}}
{{- end -}}
{{- with $claim -}}
{{- $size := .resources.requests.storage -}}
{{- if ne (include "weir.bytes" $size) (include "weir.bytes" $values.size) -}}
{{- fail (printf "%s.size is %s and the StatefulSet %s has %s, which Kubernetes does not change. Set %s again; or, if the storage class can grow volumes: kubectl -n %s patch pvc data-%s-0 -p '{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"%s\"}}}}', %s" $path $values.size $name $size $size $ns $name $values.size $again) -}}
{{- end -}}
{{- $class := default "" .storageClassName -}}
{{- $modes := default (list "ReadWriteOnce") $values.accessModes -}}
{{- if or (ne $class (default "" $values.storageClassName)) (ne (toJson .accessModes) (toJson $modes)) -}}
{{- fail (printf "the volume of the StatefulSet %s has the storage class %q and the access modes %s, and %s has %q and %s, which Kubernetes does not change: set them as before" $name $class (join "," .accessModes) $path (default "" $values.storageClassName) (join "," $modes)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
