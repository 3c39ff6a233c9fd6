# Images of what runs beside the chart. tools/supply reads this file as it reads
# deploy/Dockerfile.
FROM scratch AS pause
COPY pause /pause
ENTRYPOINT ["/pause"]

FROM scratch AS prometheus
COPY prometheus /prometheus
USER 65534:65534
ENTRYPOINT ["/prometheus"]

FROM scratch AS prometheus-config-reloader
COPY prometheus-config-reloader /prometheus-config-reloader
USER 65534:65534
ENTRYPOINT ["/prometheus-config-reloader"]
