package auth_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/auth"
)

const read, write = "/test.Reader/Get", "/test.Writer/Put"

// call judges a call that shows the given authorization headers.
func call(t *testing.T, g *auth.Gate, method string, headers ...string) error {
	t.Helper()
	ctx := t.Context()
	if len(headers) > 0 {
		ctx = metadata.NewIncomingContext(ctx, metadata.MD{"authorization": headers})
	}
	_, err := g.Authorize(ctx, method)
	return err
}

func TestAuthorize(t *testing.T) {
	logger, logs := testkit.RecordingLogger(t)
	gate, err := auth.New(logger,
		auth.Grant{Name: "read", Tokens: cli.NewSecret("alpha\n\n  beta\r\n"), Services: []string{"test.Reader"}},
		auth.Grant{Name: "write", Tokens: cli.NewSecret("gamma"), Services: []string{"test.Reader", "test.Writer"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method string
		headers      []string
		want         codes.Code
	}{
		{"one of the tokens", read, []string{"Bearer alpha"}, codes.OK},
		{"another of them", read, []string{"bearer beta"}, codes.OK},
		{"more rights than needed", read, []string{"Bearer gamma"}, codes.OK},
		{"the right to write", write, []string{"Bearer gamma"}, codes.OK},
		{"no right to write", write, []string{"Bearer alpha"}, codes.PermissionDenied},
		{"a service that nobody was granted", "/test.Reader2/Get", []string{"Bearer gamma"}, codes.PermissionDenied},
		{"no token", read, nil, codes.Unauthenticated},
		{"a wrong token", read, []string{"Bearer delta"}, codes.Unauthenticated},
		{"a wrong token for what nobody was granted", "/test.Reader2/Get", []string{"Bearer delta"}, codes.Unauthenticated},
		{"a part of a token", read, []string{"Bearer alph"}, codes.Unauthenticated},
		{"both tokens", read, []string{"Bearer alpha\n\n  beta"}, codes.Unauthenticated},
		{"an empty token, as the empty line", read, []string{"Bearer "}, codes.Unauthenticated},
		{"the bare token", read, []string{"alpha"}, codes.Unauthenticated},
		{"another scheme", read, []string{"Basic alpha"}, codes.Unauthenticated},
		{"two headers", read, []string{"Bearer alpha", "Bearer alpha"}, codes.Unauthenticated},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := call(t, gate, c.method, c.headers...)
			if status.Code(err) != c.want {
				t.Fatalf("answer is %v, want %s", err, c.want)
			}
			want := map[codes.Code]string{codes.Unauthenticated: "UNAUTHENTICATED", codes.PermissionDenied: "PERMISSION_DENIED"}[c.want]
			if got := client.Reason(err); got != want {
				t.Errorf("reason is %q, want %q", got, want)
			}
			for _, secret := range []string{"alph", "beta", "gamma", "delta"} {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("the answer shows a token: %v", err)
				}
			}
		})
	}
	if logs.String() != "" {
		t.Errorf("logged, though every call is logged by the server:\n%s", logs)
	}
}

// Tokens change with their file; a file that cannot be used changes nothing and
// is said once.
func TestRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	testkit.WriteFile(t, file, []byte("old\n"))
	secret, err := cli.ReadSecret(file)
	if err != nil {
		t.Fatal(err)
	}
	logger, logs := testkit.RecordingLogger(t)
	gate, err := auth.New(logger, auth.Grant{Name: "read", Tokens: secret, Services: []string{"test.Reader"}})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(when string, old, renewed codes.Code) {
		t.Helper()
		if got := status.Code(call(t, gate, read, "Bearer old")); got != old {
			t.Errorf("%s: the old token gets %s, want %s", when, got, old)
		}
		if got := status.Code(call(t, gate, read, "Bearer renewed")); got != renewed {
			t.Errorf("%s: the new token gets %s, want %s", when, got, renewed)
		}
	}
	expect("before", codes.OK, codes.Unauthenticated)
	testkit.WriteFile(t, file, []byte("old\nrenewed\n"))
	expect("while clients change over", codes.OK, codes.OK)
	testkit.WriteFile(t, file, []byte("renewed\n"))
	expect("after", codes.Unauthenticated, codes.OK)

	testkit.WriteFile(t, file, nil)
	expect("with an empty file", codes.Unauthenticated, codes.OK)
	if got := logs.Count("level=WARN"); got != 1 {
		t.Errorf("an empty file was said %d times, want once", got)
	}
	testkit.WriteFile(t, file, []byte("re newed\n"))
	expect("with a malformed token", codes.Unauthenticated, codes.OK)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expect("without the file", codes.Unauthenticated, codes.OK)
	if got := logs.Count("level=WARN"); got != 3 {
		t.Errorf("three faults were said %d times, want once each", got)
	}
	testkit.WriteFile(t, file, []byte("old\n"))
	expect("with a file again", codes.OK, codes.Unauthenticated)
	if logs.Count("renewed") > 0 || logs.Count("newed") > 0 {
		t.Error("a token is in the log")
	}
}

func TestCheck(t *testing.T) {
	for text, want := range map[string]string{
		"one":              "",
		"one\r\n\r\ntwo\n": "",
		"\n \n":            "no token",
		"one\ntwo words":   "line 2",
		"é":                "line 1",
		"tab\tbed":         "line 1",
	} {
		err := auth.Check(cli.NewSecret(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", text, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "words") || strings.Contains(err.Error(), "bed")) {
			t.Errorf("the error shows a token: %v", err)
		}
	}
	if _, err := auth.New(testkit.Logger(t), auth.Grant{Name: "read"}); err == nil {
		t.Error("a grant without a token was accepted")
	}
}

// Nothing but what is granted is open.
func TestNothingGranted(t *testing.T) {
	gate, err := auth.New(testkit.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gate.Authorize(context.Background(), read); status.Code(err) != codes.Unauthenticated {
		t.Errorf("answer is %v", err)
	}
}
