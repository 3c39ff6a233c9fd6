// Package promapi is a client of the HTTP API of Prometheus, and of what speaks it:
// VictoriaMetrics, Thanos, Mimir. It reads raw samples and what the server says about
// itself.
package promapi
