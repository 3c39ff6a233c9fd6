package standalone

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/internal/leader"
	"github.com/weir-metrics/weir/services/standalone/internal/progress"
)

// Exit codes of "weir backfill fetch".
const (
	exitIncomplete  = 3 // the backfill is done, and windows were refused or lost
	exitNotFollowed = 4 // the command was told to stop before the backfill had ended
)

// most ranges that are printed as text.
const mostRanges = 50

// repeated makes a call that changes nothing, or changes nothing again, until it reaches the
// leader.
func repeated[Q, A any](ctx context.Context, req *Q, do func(context.Context, *Q, ...grpc.CallOption) (*A, error)) (*A, error) {
	out, err := leader.Call(ctx, clock.System(), true, waiting, req, func(ctx context.Context, req *Q) (*A, error) { return do(ctx, req) })
	return out, explain(err)
}

func planCommand() cli.Command {
	var (
		o    operator
		what selection
	)
	return cli.Command{
		Name: "plan", Summary: "say what a backfill from Cloudflare would do, and why each range is missing",
		Help:     "Prints windows, rows, requests to Cloudflare and minutes. Changes nothing and sends no request to Cloudflare.",
		Settings: slices.Concat(what.openEnded(), o.settings()),
		Validate: func() error { return errors.Join(o.dial.Validate(), what.required()) },
		Run: func(ctx context.Context, _ []string) error {
			service, disconnect, err := o.service()
			if err != nil {
				return err
			}
			defer disconnect()
			sel := what.proto()
			e, err := repeated(ctx, &adminv1.EstimateBackfillRequest{Selection: sel}, service.EstimateBackfill)
			if err != nil {
				return fmt.Errorf("estimate the backfill: %w", err)
			}
			return o.print(os.Stdout, e, func(w io.Writer) { printEstimate(w, sel, e) })
		},
	}
}

func printEstimate(w io.Writer, sel *adminv1.Selection, e *adminv1.EstimateBackfillResponse) {
	c := e.GetWindows()
	fmt.Fprintf(w, "range     %s to %s\n", at(sel.GetStartUnixSeconds()), at(sel.GetEndUnixSeconds()))
	fmt.Fprintf(w, "windows   %d: %d final, %d missing, %d refused\n", c.GetTotal(), c.GetPresent(), c.GetMissing(), c.GetRefused())
	fmt.Fprintf(w, "rows      about %d\n", e.GetRows())
	fmt.Fprintf(w, "requests  %d\n", e.GetRequests())
	fmt.Fprintf(w, "time      about %s, with what regular work leaves of the budget\n", cli.FormatDuration(e.GetDuration().AsDuration().Round(time.Second)))
	if len(e.GetMissing()) > 0 {
		fmt.Fprintln(w, "\nMissing:")
		columns(w, []string{"DATASET", "NAME", "START", "END", "WHY"}, len(e.GetMissing()), func(i int) []string {
			m := e.GetMissing()[i]
			return []string{m.GetDataset(), m.GetName(), at(m.GetStartUnixSeconds()), at(m.GetEndUnixSeconds()), whyMissing(m)}
		})
	}
	printRefused(w, e.GetRefused(), e.GetTruncated())
}

func whyMissing(m *adminv1.MissingRange) string {
	why := "nobody has wanted it yet"
	switch {
	case m.GetAccepted():
		why = "accepted as missing"
	case m.GetLost():
		why = "lost"
	case m.GetReason() != bucketv1.GapReason_GAP_REASON_UNSPECIFIED:
		why = strings.ToLower(strings.TrimPrefix(m.GetReason().String(), "GAP_REASON_")) + "; regular work requests it"
	}
	if m.GetDetail() != "" {
		why += ": " + m.GetDetail()
	}
	return why
}

func printRefused(w io.Writer, all []*adminv1.RefusedRange, truncated bool) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, "\nRefused or lost:")
	columns(w, []string{"DATASET", "NAME", "START", "END", "REASON"}, len(all), func(i int) []string {
		r := all[i]
		return []string{
			r.GetDataset(), r.GetName(), at(r.GetStartUnixSeconds()), at(r.GetEndUnixSeconds()),
			strings.TrimPrefix(r.GetReason().String(), "REFUSED_REASON_") + ": " + r.GetDetail(),
		}
	})
	if truncated {
		fmt.Fprintln(w, "and more, which the collector left out")
	}
}

// columns writes rows in columns, and says how many it leaves out.
func columns(w io.Writer, head []string, n int, row func(i int) []string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(head, "\t"))
	for i := range min(n, mostRanges) {
		cells := row(i)
		for j := range cells {
			cells[j] = oneLine(cells[j])
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	_ = t.Flush() // into memory
	if n > mostRanges {
		fmt.Fprintf(w, "and %d more; --output json has all\n", n-mostRanges)
	}
}

func fetchCommand() cli.Command {
	var (
		o             operator
		what          selection
		by            record
		resume        string
		again, detach bool
	)
	return cli.Command{
		Name: "fetch", Summary: "have the collector bring history from Cloudflare into the store, and follow it",
		Help: `Creates a backfill and follows it until it has ended. The collector works on it below its regular work and within
the same budget. Interrupting the command ends only the following; the backfill goes on.

The same command, run again, follows the same backfill, or prints its report if it has ended: its range, selection,
reason and requester identify it. Without --end the range ends at the present hour, so the same command in another
hour creates another backfill: give --end, or follow with --resume.

Exit codes: 0 all windows are there, 1 it failed or was cancelled, 2 wrong usage, 3 it is done and windows were refused
or lost, 4 the command was interrupted and the backfill goes on.`,
		Settings: slices.Concat(what.openEnded(), by.settings(false), []cli.Setting{
			{Flag: "resume", Key: "-", Value: cli.Text(&resume), Help: "id of a backfill to follow, instead of a range"},
			{Flag: "new", Key: "-", Default: "false", Value: cli.Bool(&again), Help: "create another backfill even if there is one of the same range, selection, reason and requester"},
			{Flag: "detach", Key: "-", Default: "false", Value: cli.Bool(&detach), Help: "do not follow the backfill"},
		}, o.settings()),
		Validate: func() error {
			bad := []error{o.dial.Validate(), by.validate()}
			switch {
			case resume == "":
				if by.reason == "" {
					bad = append(bad, cli.Problem{Setting: "--reason", Reason: "is required"})
				}
				bad = append(bad, what.required())
			case what.given() || again:
				bad = append(bad, cli.Problem{Setting: "--resume", Value: resume, Reason: "has its own selection; remove --start, --end, --dataset, --zone, --account and --new"})
			}
			return errors.Join(bad...)
		},
		Run: func(ctx context.Context, _ []string) error {
			service, disconnect, err := o.service()
			if err != nil {
				return err
			}
			defer disconnect()
			id := resume
			if id == "" {
				sel := what.proto()
				created, err := repeated(ctx, &adminv1.CreateBackfillRequest{
					Selection: sel, Reason: by.reason, Requester: by.requester, IdempotencyKey: key(sel, by, again),
				}, service.CreateBackfill)
				if err != nil {
					return fmt.Errorf("create the backfill: %w", err)
				}
				b := created.GetBackfill()
				id = b.GetId()
				announce(os.Stderr, b, again)
				if detach {
					return o.print(os.Stdout, b, func(w io.Writer) { fmt.Fprintln(w, id) })
				}
			}
			f := &follower{service: service, id: id, collectors: strings.Join(o.dial.Addresses, ", "), to: os.Stderr}
			b, err := f.follow(ctx)
			if err != nil && ctx.Err() != nil {
				goes := "goes on in the collector"
				if b.GetState() == adminv1.BackfillState_BACKFILL_STATE_PAUSED {
					goes = "is paused"
				}
				return cli.CodeError{Code: exitNotFollowed, Err: fmt.Errorf("interrupted: backfill %s %s. Follow it with weir backfill fetch --resume %s, end it with weir backfill cancel %s --reason WHY", id, goes, id, id)}
			}
			if err != nil {
				return fmt.Errorf("follow backfill %s: %w", id, explain(err))
			}
			if err := o.print(os.Stdout, b, func(w io.Writer) { printBackfill(w, b) }); err != nil {
				return err
			}
			return outcome(b)
		},
	}
}

// announce says which backfill a request created, now or, unless it must be another one,
// before.
func announce(w io.Writer, b *adminv1.Backfill, another bool) {
	id, c, sel := b.GetId(), b.GetWindows(), b.GetSelection()
	if b.GetEndedAt().IsValid() && !another { // another one may be done at once
		fmt.Fprintf(w, "backfill %s, created at %s, ended at %s: this is its report; --new creates another\n", id, b.GetCreatedAt().AsTime().Format(time.RFC3339), b.GetEndedAt().AsTime().Format(time.RFC3339))
		return
	}
	fmt.Fprintf(w, "backfill %s of %s to %s: %d windows, %d of them missing\n", id, at(sel.GetStartUnixSeconds()), at(sel.GetEndUnixSeconds()), c.GetTotal(), c.GetMissing())
}

// key is the same for the same request, so that a command that was killed can be repeated.
func key(sel *adminv1.Selection, by record, again bool) string {
	h := sha256.New()
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(sel)
	if err != nil {
		panic(err) // a selection of strings and numbers always encodes
	}
	fmt.Fprintf(h, "%d %s %q %q", len(raw), raw, by.reason, by.requester)
	if again {
		_, _ = io.CopyN(h, rand.Reader, 16) // never fails (crypto/rand since Go 1.24)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// outcome is the error of a backfill that has not brought all of its windows.
func outcome(b *adminv1.Backfill) error {
	c := b.GetWindows()
	switch {
	case b.GetState() == adminv1.BackfillState_BACKFILL_STATE_CANCELLED:
		return fmt.Errorf("backfill %s was cancelled; %d windows are missing", b.GetId(), c.GetMissing())
	case c.GetRefused()+c.GetLost() > 0:
		return cli.CodeError{Code: exitIncomplete, Err: fmt.Errorf("backfill %s is done; %d windows were refused and %d lost", b.GetId(), c.GetRefused(), c.GetLost())}
	}
	return nil
}

// follower follows one backfill.
type follower struct {
	service    adminv1.AdminServiceClient
	id         string
	collectors string // for people
	to         io.Writer
}

// news is a change of a backfill, or the error with which its stream broke.
type news struct {
	backfill *adminv1.Backfill
	broken   error
}

// follow shows the progress of a backfill until it has ended. A stream that breaks is opened
// again. If nothing happens it says each minute who is waited for.
func (f *follower) follow(ctx context.Context) (last *adminv1.Backfill, err error) {
	m, clk := progress.New(f.to, "backfill "+f.id), clock.System()
	defer m.Close()
	ctx, cancel := context.WithCancel(ctx)
	changes, ended := make(chan news), make(chan error, 1)
	go func() {
		defer close(changes)
		ended <- f.read(ctx, changes)
	}()
	defer func() {
		cancel()
		for range changes { // until the reader has ended
		}
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	since, paused := clk.Now(), false
	var broken error
	for {
		select {
		case n, more := <-changes:
			switch {
			case !more:
				return last, <-ended
			case n.broken != nil && broken == nil, n.broken == nil:
				since = clk.Now()
			}
			if broken = n.broken; broken != nil {
				continue
			}
			last = n.backfill
			c := last.GetWindows()
			m.Set(int(c.GetTotal()-c.GetMissing()), int(c.GetTotal()))
			if last.GetState() == adminv1.BackfillState_BACKFILL_STATE_PAUSED && !paused {
				paused = true
				fmt.Fprintf(f.to, "backfill %s is paused; resume it with weir backfill resume %s --reason WHY\n", f.id, f.id)
			}
		case <-tick.C:
			m.Wait(cli.Plain(oneLine(f.waiting(last, broken, since))))
		}
	}
}

// waiting says what is waited for.
func (f *follower) waiting(last *adminv1.Backfill, broken error, since time.Time) string {
	at := since.Format(time.RFC3339)
	switch {
	case broken != nil:
		return fmt.Sprintf("waiting for a collector at %s since %s: %s", f.collectors, at, status.Convert(broken).Message())
	case last == nil:
		return fmt.Sprintf("waiting for a collector at %s since %s", f.collectors, at)
	case last.GetLastError() != "":
		return fmt.Sprintf("%s, unchanged since %s; last error: %s", stateOf(last), at, last.GetLastError())
	}
	return fmt.Sprintf("%s, unchanged since %s", stateOf(last), at)
}

// read passes the changes of a backfill on until it has ended.
func (f *follower) read(ctx context.Context, changes chan<- news) error {
	tell := func(n news) {
		select {
		case changes <- n:
		case <-ctx.Done():
		}
	}
	for clk := clock.System(); ; {
		moved, err := watch(ctx, f.service, f.id, func(b *adminv1.Backfill) { tell(news{backfill: b}) })
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case !moved && !transient(err):
			return err
		}
		tell(news{broken: err})
		if err := clk.WaitUntil(ctx, clk.Now().Add(time.Second)); err != nil {
			return err
		}
	}
}

func transient(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Internal, codes.ResourceExhausted, codes.Unknown:
		return true
	}
	return false
}

// watch reads one stream. It returns nil after the message in which the backfill has ended.
func watch(ctx context.Context, service adminv1.AdminServiceClient, id string, see func(*adminv1.Backfill)) (moved bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := service.WatchBackfill(ctx, &adminv1.WatchBackfillRequest{Id: id})
	if err != nil {
		return false, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return moved, nil
		}
		if err != nil {
			return moved, err
		}
		moved = true
		see(m.GetBackfill())
	}
}

func printBackfill(w io.Writer, b *adminv1.Backfill) {
	c := b.GetWindows()
	fmt.Fprintf(w, "backfill   %s, %s, requested by %s: %s\n", b.GetId(), stateOf(b), oneLine(b.GetRequester()), oneLine(b.GetReason()))
	fmt.Fprintf(w, "range      %s to %s\n", at(b.GetSelection().GetStartUnixSeconds()), at(b.GetSelection().GetEndUnixSeconds()))
	fmt.Fprintf(w, "created    %s\n", b.GetCreatedAt().AsTime().Format(time.RFC3339))
	if b.GetEndedAt().IsValid() {
		fmt.Fprintf(w, "ended      %s\n", b.GetEndedAt().AsTime().Format(time.RFC3339))
	}
	fmt.Fprintf(w, "windows    %d: %d present before, %d filled, %d missing, %d refused, %d lost\n", c.GetTotal(), c.GetPresent(), c.GetFilled(), c.GetMissing(), c.GetRefused(), c.GetLost())
	fmt.Fprintf(w, "requests   %d\n", b.GetRequests())
	if b.GetLastError() != "" {
		fmt.Fprintf(w, "last error %s\n", oneLine(b.GetLastError()))
	}
	printRefused(w, b.GetRefused(), b.GetTruncated())
}

func stateOf(b *adminv1.Backfill) string {
	return strings.ToLower(strings.TrimPrefix(b.GetState().String(), "BACKFILL_STATE_"))
}

func statusCommand() cli.Command {
	var o operator
	return cli.Command{
		Name: "status", Summary: "list the backfills, or show one",
		Help: "Without an id: all unfinished backfills and the last hundred that have ended, newest first.", Args: "[ID]",
		Settings: o.settings(),
		Validate: func() error { return o.dial.Validate() },
		Run: func(ctx context.Context, args []string) error {
			if len(args) > 1 {
				return cli.Usagef("give one id or none; got %d arguments", len(args))
			}
			service, disconnect, err := o.service()
			if err != nil {
				return err
			}
			defer disconnect()
			if len(args) == 1 {
				b, err := repeated(ctx, &adminv1.GetBackfillRequest{Id: args[0]}, service.GetBackfill)
				if err != nil {
					return fmt.Errorf("show the backfill: %w", err)
				}
				return o.print(os.Stdout, b.GetBackfill(), func(w io.Writer) { printBackfill(w, b.GetBackfill()) })
			}
			list, err := repeated(ctx, &adminv1.ListBackfillsRequest{}, service.ListBackfills)
			if err != nil {
				return fmt.Errorf("list the backfills: %w", err)
			}
			return o.print(os.Stdout, list, func(w io.Writer) { printList(w, list.GetBackfills()) })
		},
	}
}

func printList(w io.Writer, all []*adminv1.Backfill) {
	if len(all) == 0 {
		fmt.Fprintln(w, "there are no backfills")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tSTART\tEND\tWINDOWS\tMISSING\tREFUSED\tLOST\tREQUESTER\tREASON")
	for _, b := range all {
		c := b.GetWindows()
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", b.GetId(), stateOf(b), at(b.GetSelection().GetStartUnixSeconds()), at(b.GetSelection().GetEndUnixSeconds()),
			c.GetTotal(), c.GetMissing(), c.GetRefused(), c.GetLost(), oneLine(b.GetRequester()), oneLine(b.GetReason()))
	}
	_ = t.Flush() // into memory
}

func pauseCommand() cli.Command {
	return changeCommand("pause", "stop requesting windows for a backfill", func(ctx context.Context, service adminv1.AdminServiceClient, id string, by record) (*adminv1.Backfill, error) {
		r, err := repeated(ctx, &adminv1.PauseBackfillRequest{Id: id, Reason: by.reason, Requester: by.requester}, service.PauseBackfill)
		return r.GetBackfill(), err
	})
}

func resumeCommand() cli.Command {
	return changeCommand("resume", "continue a paused backfill", func(ctx context.Context, service adminv1.AdminServiceClient, id string, by record) (*adminv1.Backfill, error) {
		r, err := repeated(ctx, &adminv1.ResumeBackfillRequest{Id: id, Reason: by.reason, Requester: by.requester}, service.ResumeBackfill)
		return r.GetBackfill(), err
	})
}

func cancelCommand() cli.Command {
	return changeCommand("cancel", "end a backfill; what it has filled stays", func(ctx context.Context, service adminv1.AdminServiceClient, id string, by record) (*adminv1.Backfill, error) {
		r, err := repeated(ctx, &adminv1.CancelBackfillRequest{Id: id, Reason: by.reason, Requester: by.requester}, service.CancelBackfill)
		return r.GetBackfill(), err
	})
}

func changeCommand(name, summary string, do func(context.Context, adminv1.AdminServiceClient, string, record) (*adminv1.Backfill, error)) cli.Command {
	var (
		o  operator
		by record
	)
	return cli.Command{
		Name: name, Summary: summary, Args: "ID",
		Settings: slices.Concat(by.settings(true), o.settings()),
		Validate: func() error { return errors.Join(o.dial.Validate(), by.validate()) },
		Run: func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return cli.Usagef("give the id of one backfill; got %d arguments", len(args))
			}
			service, disconnect, err := o.service()
			if err != nil {
				return err
			}
			defer disconnect()
			b, err := do(ctx, service, args[0], by)
			if err != nil {
				return fmt.Errorf("%s backfill %s: %w", name, args[0], err)
			}
			return o.print(os.Stdout, b, func(w io.Writer) { printBackfill(w, b) })
		},
	}
}
