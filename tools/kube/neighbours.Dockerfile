# Images of what runs beside the chart, made by mkimage.
FROM scratch AS pause
COPY pause /pause
ENTRYPOINT ["/pause"]

FROM scratch AS prometheus
COPY prometheus /prometheus
USER 65534:65534
ENTRYPOINT ["/prometheus"]
