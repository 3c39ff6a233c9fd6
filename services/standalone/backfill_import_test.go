package standalone

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// The credentials of Prometheus go to its own server, those of the receiver of remote write
// to that, and nobody gets those of the other.
func TestRemoteWriteHasCredentialsOfItsOwn(t *testing.T) {
	var got http.Header
	note := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	own, other := httptest.NewServer(note), httptest.NewServer(note)
	defer own.Close()
	defer other.Close()
	access := func(token string) promapi.Access {
		return promapi.Access{Token: cli.NewSecret(token), Headers: []string{"X-Scope-OrgID: " + token}}
	}
	for _, tc := range []struct {
		name   string
		url    string
		access promapi.Access
		want   string
	}{
		{"the same server", own.URL, promapi.Access{}, "prometheus"},
		{"the same server with other credentials", own.URL, access("writer"), "writer"},
		{"another server", other.URL, promapi.Access{}, ""},
		{"another server with credentials", other.URL, access("writer"), "writer"},
	} {
		i := &importing{to: toRemoteWrite, prometheus: promapi.Config{URL: own.URL, Access: access("prometheus")}, write: promapi.Config{URL: tc.url + "/api/v1/write", Access: tc.access}}
		prom, err := promapi.New(i.prometheus)
		if err != nil {
			t.Fatal(err)
		}
		to, end, err := i.sender(prom, clock.System())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Send(t.Context(), []deliver.Series{{}}); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		authorization := ""
		if tc.want != "" {
			authorization = "Bearer " + tc.want
		}
		if got.Get("Authorization") != authorization || got.Get("X-Scope-OrgID") != tc.want {
			t.Errorf("%s got %q, want the credentials %q", tc.name, got, tc.want)
		}
		end()
		prom.Close()
	}
}

// Of two settings that exclude each other the problem does not say that one is required.
func TestOfflineAsksNobody(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"both":    {[]string{"--offline", "--prometheus-url", "http://127.0.0.1:9"}, "is not asked with --offline: remove one of them"},
		"neither": {nil, "is required with --to blocks"},
	} {
		command := importCommand()
		_, err := cli.Load(command.Settings, cli.Sources{Args: append([]string{"--to", "blocks", "--data-dir", "data"}, tc.args...)}, command.Validate)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%s: %v; want one problem: %s", name, err, tc.want)
		}
	}
}
