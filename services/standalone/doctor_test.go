package standalone

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor/observe"
)

// The credentials for exposers and operations ports go to no server to which one redirects: also
// those in headers of other names, which Go sends on.
func TestDoctorFollowsNoRedirectWithCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "http.yaml")
	config := "basic_auth: {username: doctor, password: secret}\nhttp_headers: {X-Key: {secrets: [secret]}}\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan http.Header, 1)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	t.Cleanup(other.Close)
	exposer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" || r.Header.Get("X-Key") == "" {
			t.Errorf("the exposer is asked without credentials: %v", r.Header)
		}
		http.Redirect(w, r, other.URL+"/login?state=secret", http.StatusFound)
	}))
	t.Cleanup(exposer.Close)
	client, err := httpClient(file, "WEIR_HTTP_CONFIG_FILE")
	if err != nil {
		t.Fatal(err)
	}
	asked := observe.Exposers(t.Context(), []string{exposer.URL}, client)
	select {
	case header := <-got:
		t.Errorf("the other server is asked with %v", header)
	default:
	}
	if err := asked[0].Err; err == nil || !strings.Contains(err.Error(), "redirects to "+other.URL) || strings.Contains(err.Error(), "state=") {
		t.Errorf("the error is %v, want one that names the other server and not the whole URL", err)
	}
}

// A report in which everything was skipped is no success.
func TestOutcomeOfTheDoctor(t *testing.T) {
	for name, tc := range map[string]struct {
		statuses []doctor.Status
		code     int // 0: no error, 1: an error without a code of its own
	}{
		"all pass":        {[]doctor.Status{doctor.Pass, doctor.Skipped, doctor.Warn}, 0},
		"warnings alone":  {[]doctor.Status{doctor.Warn, doctor.Skipped}, 0},
		"a failure":       {[]doctor.Status{doctor.Skipped, doctor.Fail}, 1},
		"nothing checked": {[]doctor.Status{doctor.Skipped, doctor.Skipped}, 2},
	} {
		var r doctor.Report
		for _, s := range tc.statuses {
			r.Findings = append(r.Findings, doctor.Finding{Status: s})
		}
		err, code := ended(&r), 0
		var own cli.CodeError
		switch {
		case errors.As(err, &own):
			code = own.Code
		case err != nil:
			code = 1
		}
		if code != tc.code {
			t.Errorf("%s: exit code %d (%v), want %d", name, code, err, tc.code)
		}
	}
}
