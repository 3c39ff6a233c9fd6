package cloudflare_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
)

// answers is a REST API that answers by path.
type answers map[string]string

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	for path, body := range a {
		if strings.HasSuffix(r.URL.Path, path) {
			status := http.StatusOK
			if code, rest, ok := strings.Cut(body, " "); ok && len(code) == 3 {
				body = rest
				_, _ = fmt.Sscan(code, &status)
			}
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
		}
	}
	return nil, fmt.Errorf("nobody answers %s", r.URL.Path)
}

const (
	anAccount = "0123456789abcdef0123456789abcdef"
	aTunnel   = "f70ff985-a4ef-4643-bbbc-4a0ed4fc8415"
)

func listOf(items string) string {
	return `{"success":true,"errors":[],"messages":[],"result":[` + items + `]}`
}

func readState(t *testing.T, a answers, node string, kind bucket.ScopeKind) ([]map[string]any, error) {
	t.Helper()
	return readStateSlowly(t, a, node, kind, 0)
}

// readStateSlowly reads a state, each of whose requests but the first is late by so long.
func readStateSlowly(t *testing.T, a answers, node string, kind bucket.ScopeKind, late time.Duration) ([]map[string]any, error) {
	t.Helper()
	c, err := cloudflare.New(cloudflare.Config{Transport: a, Token: func() (string, error) { return "token-of-a-test", nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c.State(t.Context(), node, bucket.Scope{Kind: kind, ID: anAccount}, func(context.Context) error {
		time.Sleep(late)
		return nil
	})
}

// What is odd in one thing costs what it must and no more: a state that is not known is no
// state, and what cannot be right is an error.
func TestOddStates(t *testing.T) {
	for _, test := range []struct {
		name, node string
		kind       bucket.ScopeKind
		answers    answers
		want       string
		class      cloudflare.Class
	}{
		{
			"a pool without a monitor", "loadBalancerPools", bucket.Account,
			answers{"/load_balancers/pools": listOf(`{"id":"` + anAccount + `","name":"p","healthy":null,"origins":[{"name":"o","address":"192.0.2.1"}]}`)},
			"poolHealthy:<nil>", 0,
		},
		{
			"a status that nobody knows", "tunnels", bucket.Account,
			answers{"/cfd_tunnel": listOf(`{"id":"` + aTunnel + `","name":"t","status":"sleepy"}`)},
			"health:255", 0,
		},
		{
			"a tunnel that was deleted since it was listed", "tunnelConnectors", bucket.Account,
			answers{
				"/cfd_tunnel":  listOf(`{"id":"` + aTunnel + `","status":"healthy"}`),
				"/connections": `404 {"success":false,"errors":[{"code":1003,"message":"Tunnel not found"}],"result":null}`,
			},
			"[]", 0,
		},
		{
			"an id that would change the path", "tunnelConnectors", bucket.Account,
			answers{"/cfd_tunnel": listOf(`{"id":"../../user","status":"healthy"}`)},
			"", cloudflare.BadResponse,
		},
		{
			"a certificate that expires at no time", "certificatePacks", bucket.Zone,
			answers{"/certificate_packs": listOf(`{"id":"` + anAccount + `","certificates":[{"id":"c","expires_on":"soon"}]}`)},
			"", cloudflare.BadResponse,
		},
		{
			"a permission that is missing", "customHostnames", bucket.Zone,
			answers{"/custom_hostnames": `403 {"success":false,"errors":[{"code":10000,"message":"Authentication error"}],"result":null}`},
			"", cloudflare.Denied,
		},
		{
			"a token that is not valid", "customHostnames", bucket.Zone,
			answers{"/custom_hostnames": `401 {"success":false,"errors":[{"code":10000,"message":"Authentication error"}],"result":null}`},
			"", cloudflare.Auth,
		},
		{"a state of another kind of scope", "tunnels", bucket.Zone, answers{}, "", cloudflare.Ours},
	} {
		t.Run(test.name, func(t *testing.T) {
			groups, err := readState(t, test.answers, test.node, test.kind)
			if test.class == 0 {
				if err != nil || !strings.Contains(fmt.Sprint(groups), test.want) {
					t.Errorf("%v, %v; want %s", groups, err, test.want)
				}
				return
			}
			var e *cloudflare.Error
			if !errors.As(err, &e) || e.Class != test.class || (e.Class == cloudflare.Denied) != (e.Zone == anAccount) {
				t.Errorf("%v; want class %s", err, test.class)
			}
		})
	}
}

// A state that takes more than so many requests, or longer than it may, is refused instead of
// read for ever: other states wait for it.
func TestAStateHasLimits(t *testing.T) {
	read := func(t *testing.T, tunnels int, late time.Duration) error {
		var list []string
		for n := range tunnels {
			list = append(list, fmt.Sprintf(`{"id":"%08d-0000-0000-0000-000000000000","status":"healthy"}`, n))
		}
		_, err := readStateSlowly(t, answers{"/cfd_tunnel": listOf(strings.Join(list, ",")), "/connections": listOf("")}, "tunnelConnectors", bucket.Account, late)
		return err
	}
	for _, test := range []struct {
		name    string
		tunnels int
		late    time.Duration
		class   cloudflare.Class
	}{
		{"as many requests as there may be", cloudflare.MostCalls - 1, 0, 0},
		{"one more", cloudflare.MostCalls, 0, cloudflare.TooBig},
		{"slow but in time", 4, cloudflare.LongestState / 5, 0},
		{"slow", 20, cloudflare.LongestState / 5, cloudflare.Transient},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := read(t, test.tunnels, test.late)
				e, _ := errors.AsType[*cloudflare.Error](err)
				if (e == nil) != (test.class == 0) || e != nil && e.Class != test.class {
					t.Errorf("%v; want class %s", err, test.class)
				}
				if took := time.Since(began); took > cloudflare.LongestState+test.late {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}
