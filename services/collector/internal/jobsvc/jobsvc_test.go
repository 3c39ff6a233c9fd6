package jobsvc_test

import (
	"context"
	"strings"
	"testing"

	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/jobsvc"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
)

// loop creates and changes whatever reaches it.
type loop struct {
	jobsvc.Loop
	by []poll.Asked
}

func (l *loop) CreateBackfill(_ context.Context, _ jobs.Selection, _ string, by poll.Asked) (*jobs.Job, error) {
	l.by = append(l.by, by)
	return &jobs.Job{}, nil
}

func (l *loop) ChangeBackfill(_ context.Context, _ string, _ jobs.State, by poll.Asked) (*jobs.Job, error) {
	l.by = append(l.by, by)
	return &jobs.Job{}, nil
}

// The loop is asked only if an audit event can say by whom and why, in one line.
func TestWhoAsksAndWhy(t *testing.T) {
	l := &loop{}
	s := &jobsvc.Service{Loop: l}
	create := func(requester, why string) error {
		_, err := s.CreateBackfill(t.Context(), &adminv1.CreateBackfillRequest{Selection: &adminv1.Selection{StartUnixSeconds: 300, EndUnixSeconds: 900}, Requester: requester, Reason: why})
		return err
	}
	for _, c := range []struct{ requester, why, want string }{
		{"ada", "", "reason is empty or blank"},
		{"ada", " \t ", "reason is empty or blank"},
		{"ada", strings.Repeat("a", 501), "reason has 501 bytes"},
		{"ada", "two\nlines", `reason is "two\nlines"; it must be one line of printable text`},
		{"ada", "right to \u202eleft", `reason is "right to \u202eleft"`},
		{"ada", "not UTF-8 \xff", "reason is "},
		{" ", "why", "requester is empty or blank"},
		{strings.Repeat("a", 101), "why", "requester has 101 bytes"},
	} {
		if err := create(c.requester, c.why); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q asks because of %.20q: %v; want %q", c.requester, c.why, err, c.want)
		}
	}
	if _, err := s.PauseBackfill(t.Context(), &adminv1.PauseBackfillRequest{Id: "a", Requester: "ada", Reason: "\n"}); err == nil {
		t.Error("a backfill was paused for no reason")
	}
	if len(l.by) > 0 {
		t.Errorf("the loop was asked: %+v", l.by)
	}
	if err := create("ada", "Bücher.example lacks März — see #12"); err != nil || len(l.by) != 1 {
		t.Errorf("%v, %+v", err, l.by)
	}
}
