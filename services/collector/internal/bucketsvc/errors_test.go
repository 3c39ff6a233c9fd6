package bucketsvc

import (
	"context"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/auth"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// The list of reasons in the contract's comment is what clients are written
// from, so the table must say the same, no more and no less.
func TestTableIsThatOfTheContract(t *testing.T) {
	text := testkit.RepoFile(t, "proto/weir/bucket/v1/service.proto")
	promised := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^//   ([A-Z_]+) +([A-Z_]+) +\S`).FindAllStringSubmatch(string(text), -1) {
		promised[m[1]] = m[2]
	}
	if len(promised) == 0 {
		t.Fatal("found no reasons in the contract's comment")
	}

	s := &Server{log: quiet.New(slog.New(slog.DiscardHandler), time.Minute)}
	errs := []error{badRequest("field is 1; it must be 2"), context.DeadlineExceeded, os.ErrInvalid}
	for _, row := range table {
		errs = append(errs, row.Err)
	}
	answers := refusals(t)
	for _, e := range errs {
		answers = append(answers, s.status(t.Context(), "test", e))
	}
	kept := map[string]bool{}
	for _, got := range answers {
		reason := client.Reason(got)
		kept[reason] = true
		if code := spelled(status.Code(got)); promised[reason] != code {
			t.Errorf("%v has the code %s and the reason %q; the contract says %q", got, code, reason, promised[reason])
		}
	}
	for reason := range promised {
		if !kept[reason] {
			t.Errorf("the contract promises %s, and no error becomes it", reason)
		}
	}
}

// refusals are what calls get that do not come as far as the service: without a
// token, with one for less, and with one that is withdrawn meanwhile.
func refusals(t *testing.T) []error {
	t.Helper()
	const method = "/weir.bucket.v1.BucketService/GetStatus"
	gate, err := auth.New(auth.Table{method: auth.Admin}, nil, auth.Grant{Access: auth.Read, Setting: "READ", Tokens: cli.NewSecret("token")})
	if err != nil {
		t.Fatal(err)
	}
	_, without := gate.Authorize(t.Context(), method)
	_, other := gate.Authorize(metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer token")), method)
	return []error{without, other, reason.Withdrawn()}
}

// spelled is a code as the contract's comment spells it: OUT_OF_RANGE.
func spelled(c codes.Code) string {
	var b strings.Builder
	for i, r := range c.String() {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}
