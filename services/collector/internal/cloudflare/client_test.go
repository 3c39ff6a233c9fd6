package cloudflare

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// secret has the characters of a token and reads like a GraphQL name, so that it
// passes every pattern that a real one would.
const secret = "s3cr3t_T0ken_0123456789abcdef"

// client returns a client of a server with that handler, and what was logged.
func client(t *testing.T, h http.HandlerFunc, change func(*Config)) (*Client, *testkit.Logs) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	logger, logs := testkit.RecordingLogger(t)
	c := Config{
		BaseURL: server.URL + "/client/v4", Token: func() (string, error) { return secret, nil },
		Timeout: 5 * time.Second, Logger: logger, UserAgent: "weir/test",
	}
	if change != nil {
		change(&c)
	}
	made, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return made, logs
}

// says is a handler that answers everything with one body.
func says(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("CF-Ray", "8f0a1b2c3d4e5f60-AMS")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// failure is the *Error of err.
func failure(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v (%T), want a *cloudflare.Error", err, err)
	}
	return e
}

func TestRequestOnTheWire(t *testing.T) {
	var got *http.Request
	var body struct{ Query string }
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Date", "Sun, 22 Nov 2026 10:00:07 GMT")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, goodBody)
		_ = z.Close()
	}, func(c *Config) { c.AccountLimits = true })
	a, err := c.Query(t.Context(), exampleQuery())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer " + secret, "Content-Type": "application/json", "User-Agent": "weir/test",
		"X-Rate-Limit-Type": "account-based", "Accept-Encoding": "gzip",
	} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("header %s is %q, want %q", name, v, want)
		}
	}
	if got.Method != http.MethodPost || got.URL.Path != "/client/v4/graphql" {
		t.Errorf("asked %s %s, want POST /client/v4/graphql", got.Method, got.URL.Path)
	}
	if strings.ContainsAny(body.Query, "\n\r") {
		t.Errorf("query has line breaks: %q", body.Query)
	}
	if want := time.Date(2026, 11, 22, 10, 0, 7, 0, time.UTC); !a.Date.Equal(want) {
		t.Errorf("date is %s, want Cloudflare's %s", a.Date, want)
	}
	if n := a.Zones[zoneA]["s0"][0]["sum"].(map[string]any)["requests"]; n != json.Number("9007199254740993") {
		t.Errorf("requests is %v (%T); numbers must stay as written: this one is above 2^53", n, n)
	}
	if list, ok := a.Zones[zoneB]["s0"]; !ok || len(list) != 0 {
		t.Errorf("zone without groups has %v (%v), want an empty list", list, ok)
	}
	if _, ok := a.Zones[zoneC]; ok {
		t.Error("a zone that Cloudflare left out is in the answer")
	}
}

// Whatever goes wrong, the token is in no error and no log line, not even when
// the other side sends it back.
func TestTokenIsNeverShown(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		auth := r.Header.Get("Authorization")
		w.Header().Set("CF-Ray", secret)
		fmt.Fprintf(w, `{"errors":[{"message":"bad header %s","path":["viewer","zones","0","%s"],"extensions":{"code":"%s"}}]}`, auth, secret, secret)
	}
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	cases := map[string]struct {
		handler http.HandlerFunc
		change  func(*Config)
	}{
		"echoed in an error":   {echo, nil},
		"echoed in the body":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, secret) }, nil},
		"echoed as a tag":      {says(200, "application/json", `{"data":{"viewer":{"zones":[{"zoneTag":"`+secret+`"}]}}}`), nil},
		"connection refused":   {echo, func(c *Config) { c.BaseURL = dead.URL }},
		"cut connection":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil},
		"token with a newline": {echo, func(c *Config) { c.Token = func() (string, error) { return secret + "\n", nil } }},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/"+secret, http.StatusFound)
		}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c, logs := client(t, tc.handler, tc.change)
			_, err := c.Query(t.Context(), exampleQuery())
			if err == nil {
				t.Fatal("no error")
			}
			e := failure(t, err)
			if text := fmt.Sprintf("%v %+v %#v", err, err, *e); strings.Contains(text, secret) {
				t.Errorf("error shows the token: %s", text)
			}
			if _, err := c.Zones(t.Context()); err == nil || strings.Contains(fmt.Sprintf("%+v", err), secret) {
				t.Errorf("error of a REST call: %v", err)
			}
			if strings.Contains(logs.String(), secret) {
				t.Errorf("log shows the token:\n%s", logs)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}, nil)
	_, err := c.Query(t.Context(), exampleQuery())
	if e := failure(t, err); e.Class != BadResponse || reached {
		t.Errorf("class %s, followed %v; want a bad answer that is not followed", e.Class, reached)
	}
}

// The transport repeats no question by itself: each has cost a permit (G7).
func TestNothingIsSentTwice(t *testing.T) {
	var asked atomic.Int64
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if asked.Add(1) == 2 {
			panic(http.ErrAbortHandler) // on a connection that is in use again
		}
		_, _ = io.WriteString(w, goodBody)
	}, nil)
	if _, err := c.Query(t.Context(), exampleQuery()); err != nil {
		t.Fatal(err)
	}
	_, err := c.Query(t.Context(), exampleQuery())
	if e := failure(t, err); e.Class != Transient || asked.Load() != 2 {
		t.Errorf("asked %d times for two calls, error %v", asked.Load(), err)
	}
}

func TestReplyLimit(t *testing.T) {
	c, _ := client(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(make([]byte, 1<<20)) // a few hundred bytes on the wire
		_ = z.Close()
	}, func(c *Config) { c.MaxReply = 1 << 16 })
	_, err := c.Query(t.Context(), exampleQuery())
	if e := failure(t, err); e.Class != TooBig {
		t.Errorf("class %s, want too_big", e.Class)
	}
}

func TestTimeoutsAndCancellation(t *testing.T) {
	// Until the test ends, the server says nothing, or only the beginning.
	for name, beginning := range map[string]string{"silence": "", "half a body": `{"data":{"viewer":`} {
		t.Run(name, func(t *testing.T) {
			end := make(chan struct{})
			c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
				if beginning != "" {
					_, _ = io.WriteString(w, beginning)
					w.(http.Flusher).Flush()
				}
				<-end
			}, func(c *Config) { c.Timeout = 50 * time.Millisecond })
			defer close(end)
			_, err := c.Query(t.Context(), exampleQuery())
			if e := failure(t, err); e.Class != Transient || !strings.Contains(e.Message, "within 50ms") {
				t.Errorf("got %v, want a transient error that names the time-out", err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := errors.New("collector stops")
			cancel(stop)
			if _, err := c.Query(ctx, exampleQuery()); !errors.Is(err, stop) {
				t.Errorf("got %v, want the cause of the cancellation", err)
			}
		})
	}
}

func TestTransportTrustsTheFileAndHonoursTheProxy(t *testing.T) {
	server := httptest.NewUnstartedServer(says(200, "application/json", goodBody))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the client that does not trust it
	server.StartTLS()
	defer server.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	for name, tc := range map[string]struct {
		ca string
		ok bool
	}{"trusted": {ca, true}, "not trusted": {"", false}} {
		t.Run(name, func(t *testing.T) {
			tr, err := Transport(TransportOptions{CA: tc.ca})
			if err != nil {
				t.Fatal(err)
			}
			defer tr.CloseIdleConnections()
			c, _ := client(t, nil, func(c *Config) { c.BaseURL, c.Transport = server.URL, tr })
			if _, err := c.Query(t.Context(), exampleQuery()); (err == nil) != tc.ok {
				t.Errorf("query: %v, want success %v", err, tc.ok)
			}
		})
	}
	tr, err := Transport(TransportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The environment is read once per process, so only its use can be seen here.
	if tr.Proxy == nil {
		t.Error("transport has no proxy function; HTTPS_PROXY would be ignored")
	}
	for _, bad := range []string{"nothing", ca + ca[:len(ca)/2]} { // the second is being written
		if _, err := Transport(TransportOptions{CA: bad}); err == nil {
			t.Errorf("accepted CA certificates that are not whole:\n%s", bad)
		}
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	token := func() (string, error) { return secret, nil }
	for name, c := range map[string]Config{
		"no token":         {},
		"no scheme":        {Token: token, BaseURL: "api.cloudflare.com"},
		"other scheme":     {Token: token, BaseURL: "ftp://api.example"},
		"password":         {Token: token, BaseURL: "https://user:hunter2@api.example"},
		"query":            {Token: token, BaseURL: "https://api.example?x=1"},
		"negative timeout": {Token: token, Timeout: -1},
		"garbage":          {Token: token, BaseURL: "https://[::1"},
	} {
		_, err := New(c)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want an error without the password", name, err)
		}
	}
}

func TestTokenProblemsAreAuth(t *testing.T) {
	for name, token := range map[string]func() (string, error){
		"cannot be read": func() (string, error) { return "", errors.New("open token: no such file") },
		"empty":          func() (string, error) { return "", nil },
		"quoted":         func() (string, error) { return `"abc"`, nil },
	} {
		c, _ := client(t, says(200, "application/json", goodBody), func(c *Config) { c.Token = token })
		_, err := c.Query(t.Context(), exampleQuery())
		if e := failure(t, err); e.Class != Auth {
			t.Errorf("%s: class %s, want auth", name, e.Class)
		}
	}
}
