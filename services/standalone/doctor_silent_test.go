package standalone

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/internal/cli"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// mute accepts connections, reads what comes, and never answers.
func mute(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
	}()
	return l.Addr().String()
}

// oneAnswer is a Prometheus that answers its first query and no other request.
func oneAnswer(t *testing.T) string {
	t.Helper()
	end := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("query") != "vector(1)" {
			<-end
			return
		}
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(end) }) // before Close, which waits for the handlers
	return s.URL
}

// onlyStatus is a collector that answers GetStatus and no other call.
type onlyStatus struct {
	bucketv1.UnimplementedBucketServiceServer
	end chan struct{}
}

func (onlyStatus) GetStatus(context.Context, *bucketv1.GetStatusRequest) (*bucketv1.GetStatusResponse, error) {
	return &bucketv1.GetStatusResponse{Role: bucketv1.Role_ROLE_LEADER}, nil
}

func (s onlyStatus) ListDatasets(context.Context, *bucketv1.ListDatasetsRequest) (*bucketv1.ListDatasetsResponse, error) {
	<-s.end
	return nil, context.Canceled
}

func (s onlyStatus) ListScopes(context.Context, *bucketv1.ListScopesRequest) (*bucketv1.ListScopesResponse, error) {
	<-s.end
	return nil, context.Canceled
}

func statusOnly(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, service := grpc.NewServer(), onlyStatus{end: make(chan struct{})}
	bucketv1.RegisterBucketServiceServer(s, service)
	go func() { _ = s.Serve(l) }() // ends with Stop
	t.Cleanup(s.Stop)
	t.Cleanup(func() { close(service.end) })
	return l.Addr().String()
}

// A run ends in its time, whatever accepts connections and does not answer, and says what
// that is.
func TestDoctorEndsIfNobodyAnswers(t *testing.T) {
	if whole := asking + trying; whole >= 5*time.Minute {
		t.Errorf("a run may take %s, and docs/doctor.md promises less than five minutes, for which helm test waits", whole)
	}
	for name, tc := range map[string]struct {
		collector, prometheus func(t *testing.T) string
		failed                []string
	}{
		"from the beginning": {
			mute, func(t *testing.T) string { return "http://" + mute(t) },
			[]string{"cloudflare.token", "collector.reachable", "store.reachable", "exposer.ready", "operations.reachable", "prometheus.reachable", "backfill_path", "panels_fed"},
		},
		"after the first question": {
			statusOnly, oneAnswer,
			[]string{"cloudflare.token", "store.reachable", "exposer.ready", "operations.reachable", "panels_fed", "delayed_collection", "backfill_path"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s doctorSettings
			cli.Defaults(s.settings())
			s.asking, s.trying, s.output = 2*time.Second, time.Second, "json"
			s.collector.CloudflareURL, s.collector.Token = "http://"+mute(t)+"/client/v4", cli.NewSecret("doctor-0123456789abcdef0123456789abcdef01")
			s.collector.DatabaseURL = cli.NewSecret("postgres://weir@" + mute(t) + "/weir?sslmode=disable")
			s.dial.Addresses = []string{tc.collector(t), mute(t), mute(t)}
			s.exposers = []string{"http://" + mute(t)}
			s.operations = []string{"http://" + mute(t), "http://" + mute(t)}
			s.prometheus = tc.prometheus(t)
			var out bytes.Buffer
			ended := make(chan error, 1)
			go func() { ended <- s.run(t.Context(), &out, func(string) string { return "" }) }()
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(err.Error(), "checks failed") {
					t.Errorf("the run ends with %v", err)
				}
			case <-time.After(2 * time.Minute): // forty times what it is given
				t.Fatal("the run does not end")
			}
			var report struct {
				Findings, Questions []struct{ Check, Status, Found string }
			}
			if err := json.Unmarshal(out.Bytes(), &report); err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			said := map[string]string{}
			for _, f := range slices.Concat(report.Findings, report.Questions) {
				if f.Status == "fail" {
					said[f.Check] += f.Found
				}
			}
			for _, check := range tc.failed {
				if said[check] == "" {
					t.Errorf("%s did not fail; failed are %v", check, said)
				}
			}
			for _, check := range []string{"cloudflare.token", "store.reachable", "exposer.ready", "operations.reachable"} {
				if !strings.Contains(said[check], "the time for the questions, 2s, is over") && !strings.Contains(said[check], "no response within") {
					t.Errorf("%s says %q, want that there was no response", check, said[check])
				}
			}
		})
	}
}
