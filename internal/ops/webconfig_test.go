package ops

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/testkit"
)

func hash(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

// Whatever happens to a web configuration and its files, those who have the
// right password get answers, and nobody else does.
func TestWebConfigurationInTrouble(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	ca, next := testkit.NewCA(t, "ca"), testkit.NewCA(t, "next")
	first, second := ca.Server(t), next.Server(t)
	first.Write(t, dir, "server")
	config := func(users string) string {
		return "tls_server_config: {cert_file: server.crt, key_file: server.key}\n" + users // relative to the file's own folder
	}
	old, renewed := "basic_auth_users: {prometheus: "+hash(t, "old")+"}\n", "basic_auth_users: {prometheus: "+hash(t, "new")+"}\n"
	testkit.WriteFile(t, path("web.yml"), []byte(config(old)))

	logger, logs := testkit.RecordingLogger(t)
	l := testkit.Listen(t)
	stop := serve(t, ServerConfig{
		Listener: l, WebConfigFile: path("web.yml"), WebConfigSetting: "WEIR_EXPOSER_WEB_CONFIG_FILE", Watch: reload.NewWatch(logger, time.Now),
	}, newOps(t, nil))
	ask := func(password string, roots *testkit.CA) (int, error) {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{ // a connection, and so a handshake, of its own
			TLSClientConfig: &tls.Config{RootCAs: roots.Pool()}, DisableKeepAlives: true,
		}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+l.Addr().String()+"/-/ready", nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			r.SetBasicAuth("prometheus", password)
		}
		response, err := client.Do(r)
		if err != nil {
			return 0, err
		}
		defer response.Body.Close()
		return response.StatusCode, nil
	}
	for _, step := range []struct {
		name     string
		change   func()
		password string // the right one
		roots    *testkit.CA
		warnings int // so far
	}{
		{"at first", func() {}, "old", ca, 0},
		{"empty", func() { testkit.WriteFile(t, path("web.yml"), nil) }, "old", ca, 1},
		{"gone", func() { _ = os.Remove(path("web.yml")) }, "old", ca, 2},
		{"no YAML", func() { testkit.WriteFile(t, path("web.yml"), []byte(config("basic_auth_users: {prom"))) }, "old", ca, 3},
		{"without its users", func() { testkit.WriteFile(t, path("web.yml"), []byte(config(""))) }, "old", ca, 4},
		{"without TLS", func() { testkit.WriteFile(t, path("web.yml"), []byte(old)) }, "old", ca, 5},
		{"a password instead of its hash", func() {
			testkit.WriteFile(t, path("web.yml"), []byte(config("basic_auth_users: {prometheus: hunter2}\n")))
		}, "old", ca, 6},
		{"a password instead of users", func() { testkit.WriteFile(t, path("web.yml"), []byte(config("basic_auth_users: hunter2\n"))) }, "old", ca, 7},
		{"another password", func() { testkit.WriteFile(t, path("web.yml"), []byte(config(renewed))) }, "new", ca, 7},
		{"another key alone", func() { testkit.WriteFile(t, path("server.key"), second.KeyPEM) }, "new", ca, 8},
		{"and its certificate", func() { testkit.WriteFile(t, path("server.crt"), second.PEM) }, "new", next, 8},
	} {
		step.change()
		for range 2 {
			if code, err := ask(step.password, step.roots); code != http.StatusOK {
				t.Errorf("%s: the right password gets %d, %v", step.name, code, err)
			}
		}
		for _, wrong := range []string{"", "wrong", map[string]string{"old": "new", "new": "old"}[step.password]} {
			if code, err := ask(wrong, step.roots); code != http.StatusUnauthorized {
				t.Errorf("%s: password %q gets %d, %v; want 401", step.name, wrong, code, err)
			}
		}
		if got := logs.Count("level=WARN"); got != step.warnings {
			t.Errorf("%s: %d warnings so far, want %d", step.name, got, step.warnings)
		}
	}
	if _, err := ask("new", ca); err == nil {
		t.Error("the certificate that was replaced is still shown")
	}
	if n := logs.Count("hunter2"); n > 0 {
		t.Errorf("%d lines of the log show a password in the wrong place", n)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A port that is closed by clients' certificates alone stays closed, whatever its
// configuration loses or is cut short by.
func TestWebConfigurationAsksNoLessOfCertificates(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	ca := testkit.NewCA(t, "ca")
	ca.Server(t).Write(t, dir, "server")
	testkit.WriteFile(t, path("ca.crt"), ca.PEM)
	const server, client = "cert_file: server.crt, key_file: server.key", ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"
	config := func(parts ...string) []byte {
		return []byte("tls_server_config: {" + strings.Join(parts, "") + "}\n")
	}
	good := config(server, client, ", client_allowed_sans: [prometheus]")
	testkit.WriteFile(t, path("web.yml"), good)
	f, err := newFront(path("web.yml"), nil, "WEIR_EXPOSER_WEB_CONFIG_FILE")
	if err != nil {
		t.Fatal(err)
	}
	first := f.kept.Get().tls
	if first.ClientCAs == nil || first.ClientAuth != tls.RequireAndVerifyClientCert {
		t.Fatalf("client certificates: policy %v, authorities %v", first.ClientAuth, first.ClientCAs)
	}
	for name, change := range map[string]func(){
		"no client certificates": func() { testkit.WriteFile(t, path("web.yml"), config(server)) },
		"any client certificate": func() {
			testkit.WriteFile(t, path("web.yml"), config(server, ", client_auth_type: RequireAnyClientCert"))
		},
		"no authorities": func() {
			testkit.WriteFile(t, path("web.yml"), config(server, ", client_auth_type: RequireAndVerifyClientCert"))
		},
		"any name":                 func() { testkit.WriteFile(t, path("web.yml"), config(server, client)) },
		"empty authorities":        func() { testkit.WriteFile(t, path("ca.crt"), nil) },
		"half of the authorities":  func() { testkit.WriteFile(t, path("ca.crt"), append(slices.Clone(ca.PEM), ca.PEM[:len(ca.PEM)/2]...)) },
		"rubbish for authorities":  func() { testkit.WriteFile(t, path("ca.crt"), []byte("rubbish")) },
		"TLS without certificates": func() { testkit.WriteFile(t, path("web.yml"), config("client_auth_type: NoClientCert")) },
	} {
		change()
		if f.kept.Get().tls != first {
			t.Errorf("%s: was put into force", name)
		}
		testkit.WriteFile(t, path("web.yml"), good)
		testkit.WriteFile(t, path("ca.crt"), ca.PEM)
	}
	testkit.WriteFile(t, path("ca.crt"), append(slices.Clone(ca.PEM), testkit.NewCA(t, "next").PEM...))
	if f.kept.Get().tls == first {
		t.Error("a second authority was not put into force")
	}
}

// What cannot be used at the start is an error that does not show passwords.
func TestWebConfigurationIsRefused(t *testing.T) {
	dir := t.TempDir()
	testkit.NewCA(t, "ca").Server(t).Write(t, dir, "a")
	for text, want := range map[string]string{
		"":                                 "is empty",
		"basic_auth_users: hunter2\n":      "(not shown)",
		"basic_auth_users: {a: hunter2}\n": "too short",
		"http_server_config: {headers: {Server: x}}\n":                                                                                    `"Server" can not be configured`,
		"tls_server_config: {cert_file: none.crt, key_file: none.key}\n":                                                                  "none.crt",
		"tls_server_config: {key_file: web.yml}\n":                                                                                        "cert",
		"tls_server_config: {cert: x, key: hunter2}\n":                                                                                    "X509KeyPair",
		"tls_server_config: {cert_file: a.crt, key_file: a.key, client_auth_type: RequireAndVerifyClientCert}\n":                          "needs a client_ca_file",
		"tls_server_config: {cert_file: a.crt, key_file: a.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: web.yml}\n": "no certificate in PEM format",
		"basic_auth_user: {}\n": "basic_auth_user",
		"http_server_config: {http2: true}\n---\nbasic_auth_users: {a: hunter2}\n": "there is a second document",
	} {
		path := filepath.Join(dir, "web.yml")
		testkit.WriteFile(t, path, []byte(text))
		_, err := newFront(path, nil, "WEIR_EXPOSER_WEB_CONFIG_FILE")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error shows a password: %v", text, err)
		}
	}
}

// The limit and the headers of the toolkit's format.
func TestWebConfigurationLimitsAndHeaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.yml")
	testkit.WriteFile(t, path, []byte("rate_limit: {interval: 1h, burst: 2}\nhttp_server_config: {headers: {X-Frame-Options: deny}}\n"))
	f, err := newFront(path, nil, "WEIR_EXPOSER_WEB_CONFIG_FILE")
	if err != nil {
		t.Fatal(err)
	}
	handler := f.before(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, w.Header().Get("X-Frame-Options")) }))
	for i, want := range []int{200, 200, 429} {
		code, body := get(handler, "/")
		if code != want || code == 200 && body != "deny" {
			t.Errorf("request %d: %d %q, want %d", i+1, code, body, want)
		}
	}
}

// addressed is a listener that says that it is somewhere else: no test listens
// where other machines could reach it.
type addressed struct {
	net.Listener
	says string
}

func (l *addressed) Addr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", l.says)
	if err != nil {
		panic(err)
	}
	return a
}

// Plain text is said once for each listener where other machines reach it,
// with the setting that changes it, and nowhere else. It is the default, so it is
// no warning unless passwords can be read on the way.
func TestPlainTextIsSaid(t *testing.T) {
	dir := t.TempDir()
	testkit.NewCA(t, "ca").Server(t).Write(t, dir, "server")
	secure, users := filepath.Join(dir, "secure.yml"), filepath.Join(dir, "users.yml")
	testkit.WriteFile(t, secure, []byte("tls_server_config: {cert_file: server.crt, key_file: server.key}\n"))
	testkit.WriteFile(t, users, []byte("basic_auth_users: {prometheus: "+hash(t, "password")+"}\n"))
	for name, c := range map[string]struct {
		address, config string
		level           string // "": not said
	}{
		"loopback":                       {"127.0.0.1:9810", "", ""},
		"loopback, version 6":            {"[::1]:9810", "", ""},
		"loopback, passwords":            {"127.0.0.1:9810", users, ""},
		"every interface":                {"0.0.0.0:9810", "", "INFO"},
		"every interface, version 6":     {"[::]:9810", "", "INFO"},
		"passwords in the clear":         {"192.0.2.1:9810", users, "WARN"},
		"every interface, TLS":           {"0.0.0.0:9810", secure, ""},
		"every interface, version 6 TLS": {"[::]:9810", secure, ""},
	} {
		t.Run(name, func(t *testing.T) {
			logger, logs := testkit.RecordingLogger(t)
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // at once: it is said before anything is served
			if err := Serve(ctx, ServerConfig{
				Name: "data", Listener: &addressed{testkit.Listen(t), c.address}, Logger: logger,
				WebConfigFile: c.config, WebConfigSetting: "WEIR_EXPOSER_WEB_CONFIG_FILE",
			}, http.NotFoundHandler()); err != nil {
				t.Fatal(err)
			}
			if c.level == "" {
				if logs.Count("plain text") != 0 {
					t.Errorf("plain text was mentioned:\n%s", logs)
				}
				return
			}
			if logs.Count("plain text") != 1 || logs.Count("level="+c.level+" ") == 0 || c.level == "INFO" && logs.Count("level=WARN") != 0 {
				t.Errorf("plain text was not said once at %s:\n%s", c.level, logs)
			}
			if logs.Count(" WEIR_EXPOSER_WEB_CONFIG_FILE\"") != 1 {
				t.Errorf("the line does not name the setting:\n%s", logs)
			}
		})
	}
}

// A request has one Authorization header, so a listener asks for passwords or for tokens.
func TestTokensAndPasswordsExcludeOneAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.yml")
	testkit.WriteFile(t, path, []byte("basic_auth_users: {a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n"))
	err := Serve(t.Context(), ServerConfig{
		Name: "data", Listener: testkit.Listen(t), WebConfigFile: path, WebConfigSetting: "WEIR_EXPOSER_WEB_CONFIG_FILE", Tokens: "WEIR_EXPOSER_TOKENS_FILE", Logger: testkit.Logger(t),
	}, http.NotFoundHandler())
	want := "data listener: basic_auth_users of the file of WEIR_EXPOSER_WEB_CONFIG_FILE and tokens of WEIR_EXPOSER_TOKENS_FILE exclude one another; give each user a token"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
