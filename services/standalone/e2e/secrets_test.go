package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/tlsconf"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// trove knows the secrets of a test in all the forms in which they could be
// shown by accident. Every text that is a secret begins with marked, which is
// the same in JSON, in quotes of Go and in a URL; keys are known by their bytes.
type trove map[string]string // what to look for to what it is

func newTrove() trove {
	tr := trove{}
	tr.add("a secret", []byte(marked))
	tr["$2a$"] = "the hash of a password"
	tr["PRIVATE KEY"] = "a key in PEM"
	return tr
}

// add looks for bytes, however they are written.
func (tr trove) add(name string, b []byte) {
	tr[string(b)] = name
	tr[hex.EncodeToString(b)] = name + " in hex"
	tr[strings.ToUpper(hex.EncodeToString(b))] = name + " in hex"
	tr[strings.Trim(fmt.Sprintf("%d", b), "[]")] = name + " as a list of bytes"
	var percent, quoted strings.Builder
	for _, c := range b {
		fmt.Fprintf(&percent, "%%%02X", c)
		fmt.Fprintf(&quoted, `\x%02x`, c)
	}
	tr[percent.String()] = name + " percent-encoded"
	tr[quoted.String()] = name + " quoted"
	// Inside a longer text it begins at any of three places in a group of four
	// letters; those at the edges depend on its neighbours.
	for before := range 3 {
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), b...))
		text = text[(before*8+5)/6 : len(text)-1]
		tr[text] = name + " in base64"
		tr[strings.NewReplacer("+", "-", "/", "_").Replace(text)] = name + " in base64 for URLs"
	}
}

// key adds a private key in PEM.
func (tr trove) key(t *testing.T, name string, pemText []byte) {
	t.Helper()
	block, _ := pem.Decode(pemText)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := parsed.(interface{ Bytes() ([]byte, error) }).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	tr.add(name, ec)
}

// search fails when a text shows a secret.
func (tr trove) search(t *testing.T, where, text string) {
	t.Helper()
	for needle, name := range tr {
		if at := strings.Index(text, needle); at >= 0 {
			t.Errorf("%s shows %s: …%s…", where, name, text[max(0, at-120):min(len(text), at+120)])
		}
	}
}

// guard searches what a process writes when the test ends.
func (tr trove) guard(t *testing.T, s *service) {
	p := s.process
	t.Cleanup(func() {
		tr.search(t, s.name+"'s standard output", p.output.String())
		tr.search(t, s.name+"'s log", p.log.String())
		if len(p.log.String()) < 500 {
			t.Errorf("%s has logged next to nothing at level debug: there is nothing to search", s.name)
		}
	})
}

func TestTroveFinds(t *testing.T) {
	tr := newTrove()
	for _, text := range []string{
		marked, "user:" + marked + "@host", fmt.Sprintf("%x", marked), fmt.Sprintf("%X", "a"+marked), fmt.Sprintf("%d", []byte("a"+marked+"b")),
		base64.StdEncoding.EncodeToString([]byte(marked)), base64.StdEncoding.EncodeToString([]byte("u:" + marked)),
		base64.URLEncoding.EncodeToString([]byte("user:" + marked + "tail")), url.QueryEscape(marked + "ü%"), fmt.Sprintf("%q", marked+"\"ü"),
	} {
		found := false
		for needle := range tr {
			found = found || strings.Contains(text, needle)
		}
		if !found {
			t.Errorf("nothing is found in %q", text)
		}
	}
}

// Two services with a secret wherever there can be one, at level debug, at
// work: no page, no metric, no profile, no answer to a refused call, no log and
// no command line shows one; nor does the dump of a process that is told to
// crash.
func TestBinaryShowsNoSecretAtWork(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			showsNoSecretAtWork(t, format)
		})
	}
}

func showsNoSecretAtWork(t *testing.T, format string) {
	tr := newTrove()
	dir := t.TempDir()
	put := func(name, content string) string {
		path := filepath.Join(dir, name)
		testkit.WriteFile(t, path, []byte(content))
		return path
	}
	ca := testkit.NewCA(t, "ca")
	server, exposerCert, web := ca.Server(t), ca.Client(t, "exposer"), ca.Server(t)
	serverCrt, serverKey := server.Write(t, dir, "server")
	clientCrt, clientKey := exposerCert.Write(t, dir, "client")
	web.Write(t, dir, "web")
	for name, pair := range map[string]testkit.Cert{"the collector's key": server, "the exposer's key": exposerCert, "the web server's key": web} {
		tr.key(t, name, pair.KeyPEM)
	}
	caFile := put("ca.pem", string(ca.PEM))
	webFile := put("web.yml", "tls_server_config: {cert_file: web.crt, key_file: web.key}\nbasic_auth_users: {old: "+hashes["old"]+"}\n")

	sim, cloudflareCA := simulateTLS(t, "cf.example")
	px := startProxy(t, sim.url)
	sim.url = "https://cf.example/client/v4"
	settings := []string{
		"WEIR_LOG_LEVEL=debug", "WEIR_LOG_FORMAT=" + format, "WEIR_PPROF=true",
		"WEIR_CLOUDFLARE_CA_FILE=" + cloudflareCA, "HTTPS_PROXY=" + px.url(marked),
		"WEIR_GRPC_CERT_FILE=" + serverCrt, "WEIR_GRPC_KEY_FILE=" + serverKey, "WEIR_GRPC_CLIENT_CA_FILE=" + caFile,
		"WEIR_COLLECTOR_WEB_CONFIG_FILE=" + webFile, "WEIR_GRPC_REFLECTION=true",
	}
	// Once as texts and once in files, once in a URL and once in key=value form.
	dsn := withPassword(t, pgtest.DSN(t))
	if format == "text" {
		settings = append(settings, "WEIR_DATABASE_URL="+dsn, "WEIR_MIGRATE=true", "WEIR_GRPC_TOKEN="+marked+"-bearer")
	} else {
		settings = append(settings, "CF_API_TOKEN=", "WEIR_MIGRATE=true", "WEIR_CONFIG_FILE="+put("weir.yaml",
			"cf_api_token_file: "+put("cf", apiToken+"\n")+"\ndatabase_url: |\n  "+keyValue(t, dsn)+"\ngrpc_token_file: "+put("bearer", marked+"-bearer\n"+marked+"-other\n")+"\n"))
	}
	c := sim.newCollector(t, settings...)
	c.again()
	tr.guard(t, c)
	x := startExposerBinary(t, []string{
		"WEIR_LOG_LEVEL=debug", "WEIR_LOG_FORMAT=" + format, "WEIR_PPROF=true",
		"WEIR_COLLECTOR_TLS=true", "WEIR_COLLECTOR_CA_FILE=" + caFile, "WEIR_COLLECTOR_CERT_FILE=" + clientCrt, "WEIR_COLLECTOR_KEY_FILE=" + clientKey,
		"WEIR_COLLECTOR_TOKEN=" + marked + "-bearer", "WEIR_EXPOSER_WEB_CONFIG_FILE=" + webFile, "WEIR_EXPOSER_OPS_WEB_CONFIG_FILE=" + webFile,
	}, c)
	tr.guard(t, x)

	roots := ca.Pool()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 10 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	ask := func(address, path, user string) (int, string, error) {
		q, err := http.NewRequest(http.MethodGet, "https://"+address+path, nil)
		if err != nil {
			return 0, "", err
		}
		q.SetBasicAuth(user, marked+"-"+user)
		response, err := client.Do(q)
		if err != nil {
			return 0, "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return response.StatusCode, fmt.Sprintf("%s\n%v\n%s", response.Status, response.Header, body), err
	}
	testkit.Eventually(t, func() error {
		_, page, err := ask(x.data, "/metrics", "old")
		if err == nil && !strings.Contains(page, "cloudflare_zone_requests{") {
			err = constError("/metrics has no requests yet: " + page[:min(len(page), 200)])
		}
		return err
	})

	for address, paths := range map[string][]string{
		x.data: {"/", "/metrics", "/backfill?hours=1", "/cloudflare/backfill?hours=1", "/-/ready", "/no/such/page", "/metrics?token=x"},
		x.ops:  opsPages,
		c.ops:  opsPages,
	} {
		for _, path := range paths {
			for _, user := range []string{"old", "nobody"} {
				code, page, err := ask(address, path, user)
				if err != nil || user == "nobody" && code != http.StatusUnauthorized {
					t.Errorf("%s as %s: %d, %v", path, user, code, err)
				}
				tr.search(t, path+" as "+user, page)
			}
		}
	}

	trust := tlsconf.Client{CAFile: caFile, CertFile: clientCrt, KeyFile: clientKey}
	for token, want := range map[string]codes.Code{
		marked + "-bearer": codes.OK, marked + "-wrong": codes.Unauthenticated, marked + " two": codes.Unauthenticated,
	} {
		secure, err := trust.Credentials(nil, "")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient("passthrough:///"+c.data, grpc.WithTransportCredentials(secure), grpc.WithPerRPCCredentials(newToken(token)))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := bucketv1.NewBucketServiceClient(conn).GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
		if status.Code(err) != want {
			t.Errorf("a call is answered with %v, want %s", err, want)
		}
		if want != codes.OK {
			tr.search(t, "the refusal of a call", fmt.Sprintf("%v %+v", err, status.Convert(err).Details()))
		}
		tr.search(t, "GetStatus", answer.String())
		health, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		tr.search(t, "health", fmt.Sprint(health, err))
		_ = conn.Close() // there is nothing to learn from it
	}

	for _, s := range []*service{c, x} {
		if title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.cmd.Process.Pid)); err == nil { // elsewhere than on Linux there is none
			tr.search(t, s.name+"'s command line", string(title))
		}
		s.signal(syscall.SIGQUIT) // what a crash prints: every goroutine
		s.wait(testkit.Patience)
		if !strings.Contains(s.log.String(), "goroutine 1 ") {
			t.Errorf("%s has not printed its goroutines", s.name)
		}
	}
}

// opsPages are all that an operations listener has with WEIR_PPROF.
var opsPages = []string{
	"/", "/metrics", "/-/ready", "/-/healthy",
	"/debug/pprof/cmdline", "/debug/pprof/heap?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/allocs?debug=1",
}

// answers are what a service shows to whoever asks, by what was asked. In
// trouble many of them are errors, which are told to strangers, too.
func (s *service) answers(t *testing.T) (map[string]string, error) {
	t.Helper()
	all := map[string]string{}
	asks := map[string][]string{s.ops: opsPages}
	if s.name == "exposer" {
		asks[s.data] = []string{"/", "/metrics", "/backfill?hours=1", "/cloudflare/backfill?hours=1", "/-/ready", "/-/healthy"}
	}
	for address, paths := range asks {
		for _, path := range paths {
			code, header, body, err := fetch("http://" + address + path)
			if err != nil {
				return nil, err
			}
			if address == s.ops && path != "/-/ready" && code != http.StatusOK {
				return nil, fmt.Errorf("%s of the operations listener is answered with %d", path, code)
			}
			all["http://"+address+path] = fmt.Sprintf("%d\n%v\n%s", code, header, body)
		}
	}
	if s.name == "collector" {
		rpc, conn := api(t, s)
		defer conn.Close()
		note := func(call string, answer fmt.Stringer, err error) {
			all[call] = fmt.Sprintf("%v %v %v", answer, err, status.Convert(err).Details())
		}
		told, err := rpc.GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
		note("GetStatus", told, err)
		coverage, err := rpc.GetCoverage(t.Context(), &bucketv1.GetCoverageRequest{})
		note("GetCoverage", coverage, err)
		scopes, err := rpc.ListScopes(t.Context(), &bucketv1.ListScopesRequest{})
		note("ListScopes", scopes, err)
		health, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		note("health", health, err)
	}
	return all, nil
}

// keyValue is a database's URL in the other form that Postgres knows.
func keyValue(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return fmt.Sprintf("host=%s port=%s user=%s password='%s' dbname=%s sslmode=disable", u.Hostname(), u.Port(), u.User.Username(), password, strings.TrimPrefix(u.Path, "/"))
}

// Services in every kind of trouble that has to do with a secret say what is
// wrong, at level debug, and not with what.
func TestBinaryShowsNoSecretInTrouble(t *testing.T) {
	t.Parallel()
	tr := newTrove()
	dir := t.TempDir()
	put := func(name, content string) string {
		path := filepath.Join(dir, name)
		testkit.WriteFile(t, path, []byte(content))
		return path
	}
	ca, other := testkit.NewCA(t, "ca"), testkit.NewCA(t, "other")
	server, stranger := ca.Server(t), other.Server(t)
	crt, key := server.Write(t, dir, "server")
	tr.key(t, "the server's key", server.KeyPEM)
	tr.key(t, "another key", stranger.KeyPEM)
	away := address(t)
	refusing := refusingPostgres(t)
	sim := simulate(t, nil)
	echo := httptest.NewServer(http.HandlerFunc(echoToken))
	t.Cleanup(echo.Close)
	queries, entitled := echoQueries(t, sim, echoToken), echoQueries(t, sim, echoTokenAsRefusal)
	proxied := startProxy(t, sim.url)
	proxied.refuse = true
	u, err := url.Parse(withPassword(t, pgtest.DSN(t)))
	if err != nil {
		t.Fatal(err)
	}
	database := newProxy(t, u.Host, 1)
	u.Host = database.addr()

	for _, test := range []struct {
		name     string
		program  string // default: collector
		args     []string
		settings []string
		says     []string // in one line of standard error
		prints   []string // on standard output
		runs     bool     // goes on, rather than end by itself
		trouble  func()   // begins when it is ready
		shows    []string // in one of its answers, which have the trouble then
	}{
		{name: "a database that is away", settings: []string{"WEIR_DATABASE_URL=postgres://weir:" + marked + "%22%C3%BC%25@" + away + "/weir"}, runs: true, says: []string{"database is unavailable"}},
		{name: "a database that is away, key=value", settings: []string{"WEIR_DATABASE_URL_FILE=" + put("dsn", "host=127.0.0.1 port="+port(away)+" user=weir password='"+marked+" \\' \"' dbname=weir")}, runs: true, says: []string{"database is unavailable"}},
		{name: "a password that the database refuses", settings: []string{"WEIR_DATABASE_URL=postgres://weir:" + marked + "@" + refusing + "/weir?sslmode=disable"}, says: []string{"password authentication failed"}},
		{name: "the same for migrate", args: []string{"migrate"}, settings: []string{"CF_API_TOKEN=", "WEIR_DATABASE_URL=postgres://weir:" + marked + "@" + refusing + "/weir?sslmode=disable"}, says: []string{"password authentication failed"}},
		{name: "a database without TLS", settings: []string{"WEIR_DATABASE_URL=postgres://weir:" + marked + "@" + refusing + "/weir?sslmode=require"}, says: []string{"open store"}},
		{name: "a key that is not the certificate's", settings: []string{"WEIR_GRPC_CERT_FILE=" + crt, "WEIR_GRPC_KEY_FILE=" + put("stranger.key", string(stranger.KeyPEM))}, says: []string{"private key does not match"}},
		{name: "a key instead of a certificate", settings: []string{"WEIR_GRPC_CERT_FILE=" + key, "WEIR_GRPC_KEY_FILE=" + crt}, says: []string{key, "has no certificate"}},
		{name: "a web configuration with a password", settings: []string{"WEIR_COLLECTOR_WEB_CONFIG_FILE=" + put("plain.yml", "basic_auth_users: {prometheus: "+marked+"}\n")}, says: []string{"WEIR_COLLECTOR_WEB_CONFIG_FILE", "plain.yml"}},
		{name: "a web configuration with a password in the wrong place", settings: []string{"WEIR_COLLECTOR_WEB_CONFIG_FILE=" + put("wrong.yml", "basic_auth_users: "+marked+"\n")}, says: []string{"WEIR_COLLECTOR_WEB_CONFIG_FILE", "wrong.yml"}},
		{name: "a web configuration with a key", settings: []string{"WEIR_COLLECTOR_WEB_CONFIG_FILE=" + put("inline.yml", "tls_server_config: {cert: x, key: "+marked+"}\n")}, says: []string{"WEIR_COLLECTOR_WEB_CONFIG_FILE", "inline.yml"}},
		{name: "tokens that cannot be", settings: []string{"WEIR_GRPC_TOKEN=" + marked + " two words", "CF_API_TOKEN=" + apiToken}, says: []string{"WEIR_GRPC_TOKEN", "line 1"}},
		{name: "a token that cannot be sent", program: "exposer", settings: []string{"WEIR_COLLECTOR_TOKEN=" + marked + " two words"}, says: []string{"WEIR_COLLECTOR_TOKEN", "printable"}},
		{name: "secrets as flags", args: []string{"run", "--database-url", marked, "--grpc-token=" + marked, "--cf-api-token", marked, "--proxy-password", marked}, says: []string{"4 problems"}},
		{name: "a secret under a wrong name", settings: []string{"WEIR_GRPC_TOKENS=" + marked, "CF_API_TOKN=" + marked, "WEIR_DATABASE_PASSWORD=" + marked}, says: []string{"WEIR_GRPC_TOKENS", "WEIR_GRPC_TOKEN?"}},
		{name: "secrets in a file of the wrong form", settings: []string{"CF_API_TOKEN=", "WEIR_CONFIG_FILE=" + put("forms.yaml", "cf_api_token: ["+marked+", {a: "+marked+"}]\ndatabase_url: {password: "+marked+"}\n")}, says: []string{"cf_api_token", "single value"}},
		{name: "secrets in a file that is no YAML", settings: []string{"WEIR_CONFIG_FILE=" + put("broken.yaml", "grpc_token: "+marked+"\n x: [\n")}, says: []string{"is not valid YAML"}},
		{name: "secrets instead of their files", settings: []string{
			"CF_API_TOKEN=", "CF_API_TOKEN_FILE=" + marked, "WEIR_DATABASE_URL_FILE=postgres://weir:" + marked + "@db.example/weir", "WEIR_GRPC_TOKEN_FILE=host=db password=" + marked,
		}, says: []string{"CF_API_TOKEN_FILE (environment): must be the path of a readable file", "may be the secret itself"}},
		{name: "the settings in force", args: []string{"run", "--print-config"}, settings: []string{"WEIR_DATABASE_URL=postgres://weir:" + marked + "@db.example/weir", "WEIR_GRPC_TOKEN=" + marked}, prints: []string{"# grpc_token: <redacted>", "environment WEIR_GRPC_TOKEN"}},
		{name: "the settings in force of an exposer", program: "exposer", args: []string{"run", "--print-config"}, settings: []string{"WEIR_COLLECTOR_TOKEN=" + marked + "-bearer"}, prints: []string{"# collector_token: <redacted>", "environment WEIR_COLLECTOR_TOKEN"}},
		{name: "the same from a file", program: "exposer", args: []string{"run", "--print-config"}, settings: []string{"WEIR_COLLECTOR_TOKEN_FILE=" + put("bearer", marked+"-bearer\n")}, prints: []string{"collector_token_file: ", "environment WEIR_COLLECTOR_TOKEN_FILE"}},
		{name: "the settings in force of both in one", program: "weir", args: []string{"run", "--print-config"}, settings: []string{"CF_API_TOKEN=" + apiToken, "WEIR_DATABASE_URL=postgres://weir:" + marked + "@db.example/weir"}, prints: []string{"# cf_api_token: <redacted>", "environment CF_API_TOKEN"}},
		{name: "the same from a file of settings", program: "weir", args: []string{"run", "--print-config"}, settings: []string{"WEIR_CONFIG_FILE=" + put("weir.yaml", "cf_api_token: "+apiToken+"\ndatabase_url: postgres://weir:"+marked+"@db.example/weir\n")}, prints: []string{"# database_url: <redacted>", "weir.yaml"}},
		{name: "help", args: []string{"run", "--help"}, settings: []string{"WEIR_DATABASE_URL=postgres://weir:" + marked + "@db.example/weir"}},
		{name: "a Cloudflare that repeats the token", settings: []string{"WEIR_CLOUDFLARE_URL=" + echo.URL + "/client/v4"}, runs: true, says: []string{"class=auth"}},
		{name: "a Cloudflare that repeats the token to queries", settings: []string{"WEIR_CLOUDFLARE_URL=" + queries}, runs: true, says: []string{"class=auth"}, shows: []string{"Invalid access token [redacted]"}},
		{name: "a Cloudflare that refuses nodes to the token it repeats", settings: []string{"WEIR_CLOUDFLARE_URL=" + entitled}, runs: true, says: []string{"[redacted]"}, shows: []string{"[redacted]"}},
		{
			name: "a database that goes away at work", settings: []string{"WEIR_DATABASE_URL=" + u.String(), "WEIR_MIGRATE=true"}, runs: true,
			trouble: func() { database.refuse.Store(true); database.cut() }, says: []string{"failed to connect to"}, shows: []string{"STORE_UNAVAILABLE"},
		},
		{name: "a proxy that refuses", settings: []string{"WEIR_CLOUDFLARE_URL=https://cf.example/client/v4", "HTTPS_PROXY=" + proxied.url(marked)}, runs: true, says: []string{"Proxy Authentication Required"}},
		{name: "a proxy that is away", settings: []string{"WEIR_CLOUDFLARE_URL=https://cf.example/client/v4", "HTTPS_PROXY=http://weir:" + marked + "@" + away}, runs: true, says: []string{"cannot list zones"}},
		{name: "a proxy that cannot be read", settings: []string{"WEIR_CLOUDFLARE_URL=https://cf.example/client/v4", "HTTPS_PROXY=http://weir:" + marked + "@127.0.0.1:port"}, says: []string{"HTTPS_PROXY"}},
		{name: "a proxy of another kind", settings: []string{"WEIR_CLOUDFLARE_URL=https://cf.example/client/v4", "https_proxy=ftp://weir:" + marked + "@127.0.0.1:1"}, says: []string{"https_proxy"}},
		{name: "a collector that refuses", program: "exposer", runs: true, settings: []string{"WEIR_COLLECTOR_ADDRESS=" + sim.startCollector(t, "WEIR_GRPC_TOKEN="+marked+"-right").data, "WEIR_COLLECTOR_TOKEN=" + marked + "-wrong"}, says: []string{"collector rejected the credential", "unknown"}},
		{name: "a collector that is not trusted", program: "exposer", runs: true, settings: []string{
			"WEIR_COLLECTOR_ADDRESS=" + sim.startCollector(t, "WEIR_GRPC_CERT_FILE="+crt, "WEIR_GRPC_KEY_FILE="+key).data, "WEIR_COLLECTOR_TLS=true",
			"WEIR_COLLECTOR_CA_FILE=" + put("other.pem", string(other.PEM)), "WEIR_COLLECTOR_TOKEN=" + marked + "-right",
		}, says: []string{"unknown authority"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := sim.newCollector(t)
			if test.program == "exposer" {
				s = &service{t: t, name: "exposer", data: address(t), ops: address(t)}
				s.settings = []string{"WEIR_DRAIN=100ms", "WEIR_EXPOSER_LISTEN=" + s.data, "WEIR_EXPOSER_OPS_LISTEN=" + s.ops}
			}
			if test.program == "weir" {
				s = &service{t: t, name: "weir"}
			}
			settings := append(append(s.settings, "WEIR_LOG_LEVEL=debug", "WEIR_PPROF=true"), test.settings...)
			args := test.args
			if args == nil {
				args = []string{"run"}
			}
			cmd := command(t, program(t, s.name), settings, args...)
			var stdout, stderr string
			if test.runs {
				s.process = launch(t, s.name, cmd)
				if test.trouble != nil {
					s.ready()
					test.trouble()
				}
				s.says(test.says...)
				var answers map[string]string
				testkit.Eventually(t, func() (err error) {
					if answers, err = s.answers(t); err == nil && len(test.shows) > 0 && !hasLine(strings.Join(slices.Collect(maps.Values(answers)), "\n"), test.shows...) {
						err = fmt.Errorf("no answer has a line with all of %q", test.shows)
					}
					return err
				})
				for of, text := range answers {
					tr.search(t, of, text)
				}
				s.stop()
				stdout, stderr = s.output.String(), s.log.String()
			} else {
				o := complete(t, cmd)
				stdout, stderr = o.stdout, o.stderr
				if len(test.says) > 0 && !hasLine(stderr, test.says...) {
					t.Errorf("no line has all of %q:\n%s", test.says, stderr)
				}
			}
			if len(test.prints) > 0 && !hasLine(stdout, test.prints...) {
				t.Errorf("no line of standard output has all of %q:\n%s", test.prints, stdout)
			}
			tr.search(t, "standard output", stdout)
			tr.search(t, "standard error", stderr)
			if stdout+stderr == "" {
				t.Error("nothing was written, so nothing was searched")
			}
		})
	}
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
