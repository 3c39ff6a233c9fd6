package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/testkit"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/auth"
)

const probe, read, write, unknown = "/test.Prober/Ask", "/test.Reader/Get", "/test.Writer/Put", "/test.Reader/GetMore"

var methods = auth.Table{probe: auth.Open, read: auth.Read, write: auth.Admin}

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
	gate, err := auth.New(methods, reload.NewWatch(logger, time.Now),
		auth.Grant{Access: auth.Read, Setting: "READ", Tokens: cli.NewSecret("alpha\n\n  beta\r\n")},
		auth.Grant{Access: auth.Admin, Setting: "ADMIN", Tokens: cli.NewSecret("gamma")},
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
		{"writing without a token", write, nil, codes.Unauthenticated},
		{"what nobody has decided about", unknown, []string{"Bearer alpha"}, codes.PermissionDenied},
		{"what nobody has decided about, by an admin", unknown, []string{"Bearer gamma"}, codes.OK},
		{"a probe without a token", probe, nil, codes.OK},
		{"a probe with a wrong token", probe, []string{"Bearer delta"}, codes.OK},
		{"no token", read, nil, codes.Unauthenticated},
		{"a wrong token", read, []string{"Bearer delta"}, codes.Unauthenticated},
		{"a wrong token for what nobody has decided about", unknown, []string{"Bearer delta"}, codes.Unauthenticated},
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
	gate, err := auth.New(methods, reload.NewWatch(logger, time.Now), auth.Grant{Access: auth.Read, Setting: "READ", Tokens: secret})
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
	if _, err := auth.New(methods, nil, auth.Grant{Access: auth.Read, Setting: "READ"}); err == nil || !strings.Contains(err.Error(), "READ") {
		t.Errorf("a grant without a token gave %v, want an error that names its setting", err)
	}
}

// Without tokens everybody reads, and nobody changes anything.
func TestNothingGranted(t *testing.T) {
	gate, err := auth.New(methods, nil)
	if err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]codes.Code{
		probe: codes.OK, read: codes.OK, write: codes.Unauthenticated, unknown: codes.Unauthenticated,
	} {
		if err := call(t, gate, method); status.Code(err) != want {
			t.Errorf("%s without a token: %v, want %s", method, err, want)
		}
		if want != codes.OK {
			if err := call(t, gate, method, "Bearer anything"); status.Code(err) != want {
				t.Errorf("%s with a token: %v, want %s", method, err, want)
			}
		}
	}
}

// The table decides about every method of every service that a collector
// serves, and about nothing else: a method that is added is closed until it
// stands there, and one that has gone does not linger.
func TestTableIsComplete(t *testing.T) {
	decided := map[string]bool{}
	for _, service := range []grpc.ServiceDesc{
		bucketv1.BucketService_ServiceDesc, adminv1.AdminService_ServiceDesc, healthv1.Health_ServiceDesc,
		reflectionv1.ServerReflection_ServiceDesc, reflectionv1alpha.ServerReflection_ServiceDesc,
	} {
		for _, m := range service.Methods {
			decided["/"+service.ServiceName+"/"+m.MethodName] = true
		}
		for _, s := range service.Streams {
			decided["/"+service.ServiceName+"/"+s.StreamName] = true
		}
	}
	for method := range decided {
		if _, known := auth.Methods[method]; !known {
			t.Errorf("nobody has decided what %s needs: it stands in no line of the table", method)
		}
	}
	for method, needs := range auth.Methods {
		if !decided[method] {
			t.Errorf("the table has %s, which no service has", method)
		}
		if open := strings.HasPrefix(method, "/grpc.health.v1."); (needs == auth.Open) != open {
			t.Errorf("%s needs %s access; probes alone are open", method, needs)
		}
		if admin := strings.HasPrefix(method, "/weir.admin."); admin != (needs == auth.Admin) {
			t.Errorf("%s needs %s access; the admin service alone, and all of it, needs admin access", method, needs)
		}
	}
}
