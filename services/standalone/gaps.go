package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weir-metrics/weir/internal/cli"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

const exitHelp = "Exit codes: 0 done, 1 failed or refused, 2 wrong usage."

func gapsCommand() cli.Command {
	return cli.Command{Name: "gaps", Summary: "list missing windows, and accept that they will never be collected", Commands: []cli.Command{listGapsCommand(), acceptGapsCommand()}}
}

func listGapsCommand() cli.Command {
	var (
		o       operator
		sel     selection
		decided bool
	)
	return cli.Command{
		Name: "list", Summary: "list ranges of windows that are due and not final, with their reasons",
		Help: "Any collector answers. Needs admin access.\n\n" + exitHelp,
		Settings: slices.Concat(sel.settings(false), []cli.Setting{
			{Flag: "decided", Key: "-", Default: "false", Value: cli.Bool(&decided), Help: "list also ranges that are lost or accepted"},
		}, o.settings()),
		Validate: func() error { return errors.Join(sel.validate(), o.dial.Validate()) },
		Run: func(ctx context.Context, _ []string) error {
			service, done, err := o.service()
			if err != nil {
				return err
			}
			defer done()
			got, err := call(ctx, patience, &adminv1.ListGapsRequest{
				Filter: sel.filter(), StartUnixSeconds: seconds(sel.start), EndUnixSeconds: seconds(sel.end), Decided: decided,
			}, func(ctx context.Context, req *adminv1.ListGapsRequest) (*adminv1.ListGapsResponse, error) {
				return service.ListGaps(ctx, req)
			})
			if err != nil {
				return err
			}
			return o.print(os.Stdout, got, func(w io.Writer) {
				if len(got.GetGaps()) == 0 {
					fmt.Fprintln(w, "no gaps")
					return
				}
				gapTable(w, got.GetGaps())
				if got.GetTruncated() {
					fmt.Fprintf(w, "and more: only the first %d are listed; select less\n", len(got.GetGaps()))
				}
			})
		},
	}
}

func acceptGapsCommand() cli.Command {
	var (
		o   operator
		sel selection
		why record
		dry bool
	)
	return cli.Command{
		Name: "accept", Summary: "accept missing windows: they are not requested any more and raise no alert",
		Help:     "It cannot be undone; a backfill that names the windows may still fill them. Windows that wait for confirmation are not missing. It leaves an audit event, also if it is refused. Needs admin access, and a leader.\n\n" + exitHelp,
		Settings: slices.Concat(sel.settings(true), why.settings(true), []cli.Setting{dryRun(&dry)}, o.settings()),
		Validate: func() error { return errors.Join(sel.validate(), why.validate(), o.dial.Validate()) },
		Run: func(ctx context.Context, _ []string) error {
			service, done, err := o.service()
			if err != nil {
				return err
			}
			defer done()
			got, err := call(ctx, patience, &adminv1.AcceptGapsRequest{Selection: sel.proto(), Reason: why.reason, Requester: why.requester, DryRun: dry},
				func(ctx context.Context, req *adminv1.AcceptGapsRequest) (*adminv1.AcceptGapsResponse, error) {
					return service.AcceptGaps(ctx, req)
				})
			if err != nil {
				return err
			}
			return o.print(os.Stdout, got, func(w io.Writer) {
				gapTable(w, got.GetAccepted())
				if dry {
					fmt.Fprintln(w, "dry run: nothing was changed")
					return
				}
				fmt.Fprintf(w, "accepted; audit event %d\n", got.GetRevision())
			})
		},
	}
}

// word is the last part of an enum's name: "upstream_error" of GAP_REASON_UPSTREAM_ERROR.
func word(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

func gapTable(out io.Writer, gaps []*adminv1.MissingRange) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DATASET\tNAME\tSTART\tEND\tSTATE\tREASON\tNEXT ATTEMPT\tLOST AT\tDETAIL")
	for _, g := range gaps {
		state := "missing"
		switch {
		case g.GetAccepted():
			state = "accepted"
		case g.GetLost():
			state = "lost"
		case g.GetWaiting():
			state = "waiting"
		}
		var next, lost string
		if g.GetNextAttempt() != nil {
			next = g.GetNextAttempt().AsTime().Format(time.RFC3339)
		}
		if g.GetLostAt() != nil {
			lost = g.GetLostAt().AsTime().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.GetDataset(), g.GetName(), at(g.GetStartUnixSeconds()), at(g.GetEndUnixSeconds()),
			state, word(g.GetReason().String(), "GAP_REASON_"), next, lost, oneLine(g.GetDetail()))
	}
	_ = w.Flush() // into memory
}

// oneLine is a text in a cell of a table.
func oneLine(s string) string {
	return strings.NewReplacer("\n", " ", "\t", " ", "\v", " ", "\f", " ").Replace(s) // all that a table takes for its own
}

func restateCommand() cli.Command {
	var (
		o   operator
		sel selection
		why record
		dry bool
	)
	return cli.Command{
		Name: "restate", Summary: "read final windows from Cloudflare again, and record what differs",
		Help:     "Scrapes keep the first value of each bucket; /backfill?as=restated has the newest. At most 1,000 windows at once. It uses the query budget, also as a dry run, and leaves an audit event. Needs admin access, and a leader.\n\nExit codes: 0 every window was read, 1 failed or refused, or a window could not be read, 2 wrong usage.",
		Settings: slices.Concat(sel.settings(true), why.settings(true), []cli.Setting{dryRun(&dry)}, o.settings()),
		Validate: func() error { return errors.Join(sel.validate(), why.validate(), o.dial.Validate()) },
		Run: func(ctx context.Context, _ []string) error {
			service, done, err := o.service()
			if err != nil {
				return err
			}
			defer done()
			got, err := call(ctx, patient, &adminv1.RestateRequest{Selection: sel.proto(), Reason: why.reason, Requester: why.requester, DryRun: dry},
				func(ctx context.Context, req *adminv1.RestateRequest) (*adminv1.RestateResponse, error) {
					return service.Restate(ctx, req)
				})
			if err != nil {
				return err
			}
			failed := 0
			for _, w := range got.GetWindows() {
				if w.GetOutcome() == adminv1.RestatedWindow_OUTCOME_FAILED {
					failed++
				}
			}
			err = o.print(os.Stdout, got, func(w io.Writer) { restateTable(w, got, dry) })
			if err == nil && failed > 0 {
				err = fmt.Errorf("%d of %d windows could not be read", failed, len(got.GetWindows()))
			}
			return err
		},
	}
}

func restateTable(out io.Writer, got *adminv1.RestateResponse, dryRun bool) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	equal := 0
	for _, r := range got.GetWindows() {
		if r.GetOutcome() == adminv1.RestatedWindow_OUTCOME_EQUAL {
			equal++
		}
	}
	if equal < len(got.GetWindows()) {
		fmt.Fprintln(w, "DATASET\tNAME\tSTART\tOUTCOME\tFAMILY\tBEFORE\tAFTER\tDETAIL")
	}
	for _, r := range got.GetWindows() {
		first := fmt.Sprintf("%s\t%s\t%s\t%s", r.GetDataset(), r.GetName(), at(r.GetStartUnixSeconds()), word(r.GetOutcome().String(), "OUTCOME_"))
		switch r.GetOutcome() {
		case adminv1.RestatedWindow_OUTCOME_EQUAL: // counted
		case adminv1.RestatedWindow_OUTCOME_RESTATED:
			for _, family := range slices.Sorted(maps.Keys(r.GetAfter())) {
				before := "unknown"
				if v, ok := r.GetBefore()[family]; ok {
					before = number(v)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", first, family, before, number(r.GetAfter()[family]))
			}
		default:
			fmt.Fprintf(w, "%s\t\t\t\t%s\n", first, oneLine(r.GetDetail()))
		}
	}
	_ = w.Flush() // into memory
	fmt.Fprintf(out, "%d windows are equal\n", equal)
	if dryRun {
		fmt.Fprintln(out, "dry run: nothing was changed")
		return
	}
	fmt.Fprintf(out, "audit event %d\n", got.GetRevision())
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func auditCommand() cli.Command {
	var (
		o      operator
		limit  int
		before int64
	)
	return cli.Command{
		Name: "audit", Summary: "list what operators requested", Commands: []cli.Command{{
			Name: "list", Summary: "list audit events, newest first",
			Help: "Any collector answers. Needs admin access.\n\n" + exitHelp,
			Settings: slices.Concat([]cli.Setting{
				{Flag: "limit", Key: "-", Default: "100", Value: cli.Int(&limit, 1, 1000), Help: "at most so many events"},
				{Flag: "before", Key: "-", Default: "0", Value: cli.Int(&before, 0, 1<<62), Help: "events before this revision; 0: from the newest one on"},
			}, o.settings()),
			Validate: func() error { return o.dial.Validate() },
			Run: func(ctx context.Context, _ []string) error {
				service, done, err := o.service()
				if err != nil {
					return err
				}
				defer done()
				got, err := call(ctx, patience, &adminv1.ListAuditEventsRequest{Limit: uint32(limit), BeforeRevision: uint64(before)},
					func(ctx context.Context, req *adminv1.ListAuditEventsRequest) (*adminv1.ListAuditEventsResponse, error) {
						return service.ListAuditEvents(ctx, req)
					})
				if err != nil {
					return err
				}
				return o.print(os.Stdout, got, func(w io.Writer) { auditTable(w, got.GetEvents()) })
			},
		}},
	}
}

func auditTable(out io.Writer, events []*adminv1.AuditRecord) {
	if len(events) == 0 {
		fmt.Fprintln(out, "no audit events")
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REVISION\tTIME\tACTION\tACTOR\tRANGE\tDATASETS\tSCOPES\tREASON\tRESULT")
	for _, r := range events {
		e := r.GetEvent()
		if e == nil {
			fmt.Fprintf(w, "%d\t%s\tunreadable\t\t\t\t\t\t\n", r.GetRevision(), r.GetCommittedAt().AsTime().Format(time.RFC3339))
			continue
		}
		result, _, _ := strings.Cut(e.GetAfter(), "\n")
		if e.GetRefused() != "" {
			result = "refused: " + e.GetRefused()
		}
		if id := e.GetBackfillId(); id != "" {
			result = id + ": " + result
		}
		span := ""
		if e.GetEndUnixSeconds() != 0 {
			span = at(e.GetStartUnixSeconds()) + " to " + at(e.GetEndUnixSeconds())
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.GetRevision(), r.GetCommittedAt().AsTime().Format(time.RFC3339), word(e.GetAction().String(), "ACTION_"), oneLine(e.GetActor()),
			span, orAll(e.GetDatasets()), scopes(e.GetScopes()), oneLine(e.GetReason()), oneLine(result))
	}
	_ = w.Flush() // into memory
}

func orAll(list []string) string {
	if len(list) == 0 {
		return "all"
	}
	return strings.Join(list, ",")
}

// scopes names a few scopes, as an event has them: by id.
func scopes(list []*bucketv1.Scope) string {
	const most = 2
	var ids []string
	for _, s := range list[:min(most, len(list))] {
		ids = append(ids, s.GetId())
	}
	if len(list) > most {
		ids = append(ids, fmt.Sprintf("and %d more", len(list)-most))
	}
	return orAll(ids)
}
