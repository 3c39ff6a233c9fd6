package promapi

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/weir-metrics/weir/internal/cli"
)

// Config says how to reach a Prometheus, or a receiver of remote write.
type Config struct {
	URL string
	Access
}

// Access is how requests to a server are authorized.
type Access struct {
	User     string
	Password cli.Secret
	Token    cli.Secret
	Headers  []string // Name: value
	CAFile   string
	// CertFile and KeyFile are the client certificate and its key; both or neither.
	CertFile, KeyFile string
}

// Given reports whether anything is set.
func (a *Access) Given() bool {
	return a.User != "" || !a.Password.IsZero() || !a.Token.IsZero() || len(a.Headers) > 0 || a.CAFile != "" || a.CertFile != "" || a.KeyFile != ""
}

// Prefixes of the names of settings.
const (
	prometheus  = "WEIR_PROMETHEUS_"
	remoteWrite = "WEIR_REMOTE_WRITE_"
	// Destination is the prefix of the settings of weir push.
	Destination = "WEIR_PUSH_DESTINATION_"
)

// Settings are the lines of a command's table.
func (c *Config) Settings() []cli.Setting {
	return append([]cli.Setting{
		{Env: prometheus + "URL", Value: cli.URL(&c.URL, "http", "https"), Help: "base URL of the Prometheus API: of Prometheus, VictoriaMetrics, Thanos Query, or Mimir with its prefix /prometheus"},
	}, c.Access.settings(prometheus, "Prometheus")...)
}

// RemoteWriteSettings are the lines of a command's table for a receiver of remote write.
func (c *Config) RemoteWriteSettings() []cli.Setting {
	return append([]cli.Setting{
		{Env: remoteWrite + "URL", Value: cli.URL(&c.URL, "http", "https"), Help: "URL that takes remote write, such as http://prometheus:9090/api/v1/write. If scheme, host and port are those of WEIR_PROMETHEUS_URL and none of the other WEIR_REMOTE_WRITE_ settings is given, those of WEIR_PROMETHEUS_ are used; to another server they are not sent"},
	}, c.Access.settings(remoteWrite, "the receiver of remote write")...)
}

// DestinationSettings are the lines of weir push's table for where it sends.
func (c *Config) DestinationSettings() []cli.Setting {
	table := append([]cli.Setting{
		{Env: Destination + "URL", Required: true, Value: cli.URL(&c.URL, "http", "https"), Help: "URL that takes the samples, with its path, used as it is: http://mimir/api/v1/push, http://prometheus:9090/api/v1/write, http://collector:4318/v1/metrics"},
	}, c.Access.settings(Destination, "the destination")...)
	for i := range table {
		table[i].Flag = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(table[i].Env, "WEIR_PUSH_"), "_", "-"))
	}
	return table
}

// ValidateDestination does the same as Validate for where weir push sends.
func (c *Config) ValidateDestination() error { return c.Access.validate(Destination) }

func (a *Access) settings(prefix, server string) []cli.Setting {
	return []cli.Setting{
		{Env: prefix + "USER", Value: cli.Text(&a.User), Help: "user name for basic authentication at " + server},
		{Env: prefix + "PASSWORD", Value: cli.SecretText(&a.Password), Help: "password for basic authentication at " + server},
		{Env: prefix + "TOKEN", Value: cli.SecretText(&a.Token), Help: "bearer token for " + server},
		{Env: prefix + "HEADERS", Value: cli.List(&a.Headers), Help: "further request headers, comma-separated as Name: value, such as X-Scope-OrgID: tenant; not for secrets"},
		{Env: prefix + "CA_FILE", Value: cli.Text(&a.CAFile), Help: "PEM file with the CA certificates that verify " + server + "; empty: the system's root certificates"},
		{Env: prefix + "CERT_FILE", Value: cli.Text(&a.CertFile), Help: "PEM file with the client certificate for " + server + ", followed by those of its intermediate issuers"},
		{Env: prefix + "KEY_FILE", Value: cli.Text(&a.KeyFile), Help: "PEM file with the key of the client certificate"},
	}
}

// Validate checks rules that involve more than one setting.
func (c *Config) Validate() error { return c.Access.validate(prometheus) }

// ValidateRemoteWrite does the same for a receiver of remote write.
func (c *Config) ValidateRemoteWrite() error { return c.Access.validate(remoteWrite) }

func (a *Access) validate(prefix string) error {
	var bad []error
	problem := func(setting, format string, args ...any) {
		bad = append(bad, cli.Problem{Setting: prefix + setting, Reason: fmt.Sprintf(format, args...)})
	}
	if (a.User == "") != a.Password.IsZero() {
		problem("USER", "must be set together with %sPASSWORD", prefix)
	}
	if a.User != "" && !a.Token.IsZero() {
		problem("TOKEN", "must not be set together with %sUSER: a request has one credential", prefix)
	}
	if (a.CertFile == "") != (a.KeyFile == "") {
		problem("CERT_FILE", "must be set together with %sKEY_FILE", prefix)
	}
	if _, err := headers(a.Headers); err != nil {
		problem("HEADERS", "%v", err)
	}
	return errors.Join(bad...)
}

// headerName and headerValue match what a request may have; others would fail each request.
var (
	headerName  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	headerValue = regexp.MustCompile(`^[^\x00-\x08\x0a-\x1f\x7f]+$`)
)

// ownHeaders are those that follow from the request: Go ignores some of them without a word, and
// others would make the request another one than it is.
var ownHeaders = map[string]string{
	"Host":              "the host is that of the URL: give a URL with that name, which must resolve to the server's address",
	"Accept-Encoding":   "it belongs to the request",
	"Connection":        "it belongs to the request",
	"Content-Encoding":  "it belongs to the request",
	"Content-Length":    "it belongs to the request",
	"Content-Type":      "it belongs to the request",
	"Expect":            "it belongs to the request",
	"Te":                "it belongs to the request",
	"Trailer":           "it belongs to the request",
	"Transfer-Encoding": "it belongs to the request",
	"Upgrade":           "it belongs to the request",

	"X-Prometheus-Remote-Write-Version": "it belongs to the protocol",
}

func headers(list []string) (http.Header, error) {
	h := http.Header{}
	for _, text := range list {
		name, value, ok := strings.Cut(text, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !headerName.MatchString(name) || !headerValue.MatchString(value) {
			return nil, fmt.Errorf("%q must be Name: value, with a name of letters, digits and hyphens", text)
		}
		key := http.CanonicalHeaderKey(name)
		if why, own := ownHeaders[key]; own {
			return nil, fmt.Errorf("must not have %s: %s", key, why)
		}
		switch key {
		case "Authorization":
			return nil, errors.New("must not have Authorization: use the setting for a token or a password, which is not printed")
		case "Proxy-Authorization":
			return nil, errors.New("must not have Proxy-Authorization, which would be printed: give user and password in HTTPS_PROXY")
		}
		h.Add(name, value)
	}
	return h, nil
}
