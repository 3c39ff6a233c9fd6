package promtest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

var (
	buildMimirOnce  = sync.OnceValues(func() (Receiver, error) { return BuildMimir(os.Stderr) })
	buildThanosOnce = sync.OnceValues(func() (Receiver, error) { return BuildThanos(os.Stderr) })

	buildOpenTelemetryOnce = sync.OnceValues(func() (Receiver, error) { return BuildOpenTelemetry(os.Stderr) })
)

// Tenant is whom requests to Mimir are about.
const Tenant = "weir"

// mimirConfig is a Mimir of one process that keeps everything below its working directory
// and speaks to itself only.
const mimirConfig = `
target: all
usage_stats: {enabled: false}
server: {http_listen_address: 127.0.0.1, grpc_listen_address: 127.0.0.1, log_level: warn}
memberlist: {bind_addr: [127.0.0.1], bind_port: 0}
activity_tracker: {filepath: data/activity}
blocks_storage:
  backend: filesystem
  filesystem: {dir: data/blocks}
  tsdb: {dir: data/tsdb}
  bucket_store: {sync_dir: data/sync}
compactor: {data_dir: data/compactor, sharding_ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}}
distributor: {ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}}
ingester: {ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}, replication_factor: 1, min_ready_duration: 0s, final_sleep: 0s}}
store_gateway: {sharding_ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}, replication_factor: 1}}
frontend: {address: 127.0.0.1}
querier: {ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}}
ruler: {rule_path: data/ruler, ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}}
ruler_storage: {backend: filesystem, filesystem: {dir: data/rules}}
`

// FindMimir returns the pinned Mimir, built if necessary, which takes minutes.
func FindMimir(t testing.TB) Receiver { return findReceiver(t, buildMimirOnce) }

// FindThanos returns the pinned Thanos, built if necessary, which takes minutes.
func FindThanos(t testing.TB) Receiver { return findReceiver(t, buildThanosOnce) }

func findReceiver(t testing.TB, build func() (Receiver, error)) Receiver {
	t.Helper()
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// StartMimir starts the pinned Mimir, built if necessary, with the limits that are given as
// flags (-name=value). Its requests need [Server.Header].
func StartMimir(t testing.TB, flags ...string) *Server {
	t.Helper()
	program := FindMimir(t)
	s := &Server{t: t, name: "Mimir", program: program.Path, prefix: "/prometheus", ready: "/ready", header: http.Header{"X-Scope-Orgid": {Tenant}}}
	s.launch(mimirConfig, flags, func() []string {
		if err := os.MkdirAll(filepath.Join(s.DataDir(), "rules"), 0o755); err != nil {
			t.Fatal(err)
		}
		port, internal := portOf(t, s.addr), portOf(t, freeAddr(t))
		s.write = "http://" + s.addr + "/api/v1/push"
		return []string{"-config.file=" + s.configFile(), "-server.http-listen-port=" + port, "-server.grpc-listen-port=" + internal}
	})
	return s
}

func portOf(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Thanos is a Receive, and a Query in front of it.
type Thanos struct {
	Receive *Server
	// Query answers; its WriteURL is that of Receive.
	Query *Server
}

// StartThanos starts the pinned Thanos, built if necessary, with flags for Receive. Its
// external labels are receive and, as Thanos adds it, tenant_id.
func StartThanos(t testing.TB, flags ...string) *Thanos {
	t.Helper()
	program := FindThanos(t)
	receive, query := &Server{t: t, name: "Thanos Receive", program: program.Path, command: []string{"receive"}}, &Server{t: t, name: "Thanos Query", program: program.Path, command: []string{"query"}}
	store := ""
	receive.launch("", flags, func() []string {
		store = freeAddr(t)
		remote := freeAddr(t)
		query.write = "http://" + remote + "/api/v1/receive"
		return []string{
			"--tsdb.path=" + receive.DataDir(), "--http-address=" + receive.addr, "--grpc-address=" + store, "--remote-write.address=" + remote,
			`--label=receive="a"`, "--log.level=warn",
		}
	})
	query.launch("", nil, func() []string {
		// Strict: a Receive that is down is a warning, and not left out in silence.
		return []string{"--http-address=" + query.addr, "--grpc-address=" + freeAddr(t), "--endpoint-strict=" + store, "--log.level=warn"}
	})
	return &Thanos{receive, query}
}

// StartOpenTelemetry starts the pinned OpenTelemetry collector, built if necessary. It takes
// OTLP over HTTP at its WriteURL, and writes each request as a line of JSON to a file in its
// data folder, of which it also returns the path.
func StartOpenTelemetry(t testing.TB) (s *Server, received string) {
	t.Helper()
	program := findReceiver(t, buildOpenTelemetryOnce)
	s = &Server{t: t, name: "OpenTelemetry collector", program: program.Path}
	s.probe = func() error {
		// An empty request is one.
		response, err := s.client.Post(s.write, "application/x-protobuf", nil)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers with %s", response.Status)
		}
		return nil
	}
	s.launch("", nil, func() []string {
		if err := os.MkdirAll(s.DataDir(), 0o755); err != nil {
			t.Fatal(err)
		}
		received = filepath.Join(s.DataDir(), "received.jsonl")
		s.write = "http://" + s.addr + "/v1/metrics"
		s.writeConfig(fmt.Sprintf(`
receivers: {otlp: {protocols: {http: {endpoint: %q}}}}
exporters: {file: {path: %q, append: true}}
service:
  pipelines: {metrics: {receivers: [otlp], exporters: [file]}}
  telemetry: {metrics: {level: none}, logs: {level: warn}}
`, s.addr, received))
		return []string{"--config=" + s.configFile()}
	})
	return s, received
}
