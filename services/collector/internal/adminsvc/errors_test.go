package adminsvc

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// held is a store whose lease another process holds, or nobody.
type held struct {
	head store.Head
	err  error
}

func (h held) Head(context.Context) (store.Head, error) { return h.head, h.err }

func (h held) AuditEvents(context.Context, bucket.Revision, int) ([]store.Entry, error) {
	return nil, h.err
}

func serverOn(h held) *Server {
	return &Server{c: Config{Store: h}, log: quiet.New(slog.New(slog.DiscardHandler), time.Minute)}
}

// The reasons are those of the contract's comments, with the codes that they say there.
func TestTableIsThatOfTheContract(t *testing.T) {
	promised := map[string]string{}
	for _, file := range []string{"proto/weir/bucket/v1/service.proto", "proto/weir/admin/v1/admin.proto"} {
		for _, m := range regexp.MustCompile(`(?m)^//   ([A-Z_]+) +([A-Z_]+) +\S`).FindAllStringSubmatch(string(testkit.RepoFile(t, file)), -1) {
			promised[m[1]] = m[2]
		}
	}
	s := serverOn(held{})
	errs := []error{reason.BadRequest("field is 1; it must be 2"), context.DeadlineExceeded, os.ErrInvalid, fmt.Errorf("wrapped: %w", poll.ErrNotLeading)}
	for _, row := range table {
		errs = append(errs, row.Err)
	}
	for why := range refusals {
		errs = append(errs, &poll.Refusal{Why: why, Text: "no"})
	}
	kept := map[string]bool{}
	for _, e := range errs {
		got := s.status(t.Context(), "test", e)
		name := client.Reason(got)
		kept[name] = true
		if code := spelled(status.Code(got)); promised[name] != code {
			t.Errorf("%v: code %s, reason %q; the contract has %q", e, code, name, promised[name])
		}
	}
	for _, name := range []string{"NOT_LEADER", "NOT_FOUND", "REFUSED", "OUTCOME_UNKNOWN", "TOO_MANY_JOBS"} {
		if !kept[name] || promised[name] == "" {
			t.Errorf("%s: an error has it: %t; the contract: %q", name, kept[name], promised[name])
		}
	}
}

func spelled(c codes.Code) string {
	return strings.ToUpper(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(c.String(), "${1}_${2}"))
}

// Who asks the wrong collector is told which one to ask.
func TestNotLeaderNamesTheLeader(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		held
		want string
	}{
		{held{head: store.Head{Holder: store.Holder("collector-b", "1234"), ExpiresAt: now.Add(time.Second), Now: now}}, "collector-b does"},
		{held{head: store.Head{Holder: store.Holder("collector-b", "1234"), ExpiresAt: now, Now: now}}, "no other does"},
		{held{}, "no other does"},
		{held{err: store.ErrUnavailable}, "cannot be asked"},
	} {
		err := serverOn(c.held).status(t.Context(), "AcceptGaps", poll.ErrNotLeading)
		if text := status.Convert(err).Message(); !strings.Contains(text, c.want) || strings.Contains(text, "1234") {
			t.Errorf("%q; want %q in it, and no instance", text, c.want)
		}
	}
}
