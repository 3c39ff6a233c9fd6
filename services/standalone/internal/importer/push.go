package importer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
	"github.com/weir-metrics/weir/services/standalone/internal/verify"
)

// Refusal is samples that a receiver did not take.
type Refusal struct {
	Series  string    `json:"series"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Samples int64     `json:"samples"`
	Reason  string    `json:"reason"`
}

// Sender sends series to a receiver.
type Sender interface {
	// Send returns the samples that the receiver refused for good; all others are
	// stored. An error means that it is not known what is.
	Send(ctx context.Context, series []deliver.Series) ([]Refusal, error)
	// Flush makes visible to queries what was sent, where that takes time. It is called before
	// anything is asked of the receiver, and after all was sent.
	Flush(ctx context.Context) error
	// Limits returns what is known about the receiver.
	Limits(ctx context.Context, prom *promapi.Client) (Limits, error)
}

// Limits is what is known about the samples that a receiver takes.
type Limits struct {
	// Oldest is the time before which it refuses samples; 0: it takes any.
	Oldest sample.Millis
	// Unknown: it refuses old samples, and nobody says which.
	Unknown bool
	Notes   []string
}

// PushOptions say what is sent.
type PushOptions struct {
	history.Selection
	Labels []export.Label
	// Added are labels that the receiver adds to what it stores: not sent, not compared.
	Added []string
	// Only restricts an import to the findings of a comparison before; nil: all that the
	// receiver lacks.
	Only *verify.Picks
	// Partial sends what the receiver takes although it refuses a part.
	Partial bool
	DryRun  bool
	Clock   clock.Clock
	// Compared and Sent are told about the progress of both steps; may be nil.
	Compared, Sent func(done, total int)
}

// PushResult is what an import has done.
type PushResult struct {
	Missing  int64     `json:"samples_missing"`  // that the receiver lacked
	Selected int64     `json:"samples_selected"` // of them, that were to be sent
	TooOld   int64     `json:"samples_too_old"`  // of them, that the receiver says it refuses
	Sent     int64     `json:"samples_sent"`
	Refused  int64     `json:"samples_refused"`
	Refusals []Refusal `json:"refusals,omitempty"` // the first of them
	Notes    []string  `json:"notes,omitempty"`
	DryRun   bool      `json:"dry_run,omitempty"`
}

// mostRefusals is how many refusals a result lists.
const mostRefusals = 100

// requestSamples is how many samples a request has: far below every receiver's limit.
const requestSamples = 5000

// Push compares, checks, and sends what the receiver lacks.
func Push(ctx context.Context, store *history.Store, prom *promapi.Client, to Sender, o PushOptions) (*PushResult, error) {
	r := &PushResult{DryRun: o.DryRun}
	sel := o.Selection
	if o.Only != nil {
		if o.Only.Samples == 0 {
			r.Notes = append(r.Notes, "the findings have no missing sample")
			return r, nil
		}
		if o.Only.Header.StoreID != store.Info.ID {
			return nil, fmt.Errorf("the findings are of the store %s; this is %s", o.Only.Header.StoreID, store.Info.ID)
		}
		sel = o.Only.Selection()
	}
	lacking, err := missing(ctx, store, prom, sel, o)
	if err != nil {
		return nil, err
	}
	r.Missing = lacking.Samples
	if r.Missing == 0 {
		r.Notes = append(r.Notes, "the receiver lacks nothing")
		return r, nil
	}
	note, err := checkRetention(ctx, prom, lacking.First, o.Clock.Now())
	if err != nil {
		return nil, err
	}
	limits, err := to.Limits(ctx, prom)
	switch {
	case err != nil:
		return nil, err
	case limits.Unknown && !o.Partial:
		return nil, hazard("TOO_OLD", "the receiver does not tell its out-of-order window, so it is not known which of %d samples, the oldest from %s, it refuses: say the window with --out-of-order-window, or send all and see what is refused with --partial",
			r.Missing, lacking.First.Std().Format(time.RFC3339))
	case limits.Unknown:
		r.Notes = append(r.Notes, "the receiver does not tell its out-of-order window: what it refuses is known when it is sent")
	}
	oldest := limits.Oldest
	r.Notes = append(r.Notes, limits.Notes...)
	if note != "" {
		r.Notes = append(r.Notes, note)
	}
	if err := send(ctx, store, to, lacking, oldest, &o, r, true); err != nil {
		return nil, err
	}
	if r.TooOld > 0 && !o.Partial {
		return nil, hazard("TOO_OLD", "%d of %d samples are from before %s, and the receiver refuses them (its out-of-order window ends there): import with --to blocks, raise out_of_order_time_window, or send the rest alone with --partial",
			r.TooOld, r.Selected, oldest.Std().Format(time.RFC3339))
	}
	if o.DryRun {
		return r, nil
	}
	if err := send(ctx, store, to, lacking, oldest, &o, r, false); err != nil {
		return nil, err
	}
	if err := to.Flush(ctx); err != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("what was sent may be visible after some seconds only: %v", err))
	}
	return r, nil
}

// missing compares the receiver with the store. What was found goes through a temporary
// file, since it may be long.
func missing(ctx context.Context, store *history.Store, prom *promapi.Client, sel history.Selection, o PushOptions) (*verify.Picks, error) {
	f, err := os.CreateTemp("", "weir-findings-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	defer func() { f.Close(); _ = os.Remove(f.Name()) }() // nothing in it is worth an error
	report, err := verify.Run(ctx, store, prom, verify.Options{
		Selection: sel, Match: Matchers(o.Labels), Ignore: append(names(o.Labels), o.Added...), Known: true, Findings: f, Clock: o.Clock, Progress: o.Compared,
	})
	if err != nil {
		return nil, fmt.Errorf("compare before the import: %w", err)
	}
	if err := checkOverlap(report); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return verify.LoadMissing(f)
}

func names(labels []export.Label) (out []string) {
	for _, l := range labels {
		out = append(out, l.Name)
	}
	return out
}

// send goes through what is missing and sends it, or only counts it.
func send(ctx context.Context, store *history.Store, to Sender, lacking *verify.Picks, oldest sample.Millis, o *PushOptions, r *PushResult, count bool) error {
	plan, err := store.Plan(lacking.Selection())
	if err != nil {
		return err
	}
	if count {
		r.Selected, r.TooOld = 0, 0
	}
	done := 0
	if !count && o.Sent != nil {
		o.Sent(0, plan.Len())
	}
	for c := range plan.Chunks() {
		columns, err := read(ctx, store, c, lacking, o)
		if err != nil {
			return err
		}
		if columns, err = cut(columns, oldest, r, count); err != nil {
			return err
		}
		if !count {
			if err := deliverAll(ctx, to, columns, r); err != nil {
				return fmt.Errorf("send %s of %s: %w", c.Group, c.Range, err)
			}
			if done++; o.Sent != nil {
				o.Sent(done, plan.Len())
			}
		}
	}
	return nil
}

// read returns the picked samples of a chunk as series, in order of their labels.
func read(ctx context.Context, store *history.Store, c *history.Chunk, lacking *verify.Picks, o *PushOptions) ([]*deliver.Series, error) {
	columns := map[string]*deliver.Series{}
	var key bytes.Buffer
	for b, err := range store.Read(ctx, c, lacking.Header.Restated, func(error) {}) {
		if err != nil {
			return nil, err
		}
		sets := lacking.Of(b)
		if o.Only != nil {
			own := *b
			own.Sets = sets
			sets = o.Only.Of(&own)
		}
		for i := range sets {
			set := &sets[i]
			for n := range set.Len() {
				key.Reset()
				key.WriteString(set.Name)
				for name, value := range set.Common() {
					key.WriteString("\x00" + name + "\x01" + value)
				}
				for j, value := range set.Own(n) {
					key.WriteString("\x00" + set.Family.Labels[j] + "\x01" + value)
				}
				s := columns[key.String()]
				if s == nil {
					s = &deliver.Series{Labels: deliver.LabelsOf(set, n, o.Labels)}
					columns[key.String()] = s
				}
				s.Samples = append(s.Samples, deliver.Sample{At: set.At, Value: set.Value(n)})
			}
		}
	}
	out := make([]*deliver.Series, 0, len(columns))
	for _, s := range columns {
		slices.SortStableFunc(s.Samples, func(a, b deliver.Sample) int { return cmp.Compare(a.At, b.At) })
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *deliver.Series) int { return slices.CompareFunc(a.Labels, b.Labels, deliver.CompareLabels) })
	return out, nil
}

// cut leaves out what the receiver refuses.
func cut(columns []*deliver.Series, oldest sample.Millis, r *PushResult, count bool) ([]*deliver.Series, error) {
	kept := columns[:0]
	for _, s := range columns {
		i, _ := slices.BinarySearchFunc(s.Samples, oldest, func(x deliver.Sample, at sample.Millis) int { return cmp.Compare(x.At, at) })
		if count {
			r.Selected += int64(len(s.Samples))
			r.TooOld += int64(i)
		}
		if s.Samples = s.Samples[i:]; len(s.Samples) > 0 {
			kept = append(kept, s)
		}
	}
	return kept, nil
}

// deliverAll sends series in requests of a limited size.
func deliverAll(ctx context.Context, to Sender, columns []*deliver.Series, r *PushResult) error {
	var request []deliver.Series
	n := 0
	flush := func() error {
		if n == 0 {
			return nil
		}
		refused, err := to.Send(ctx, request)
		if err != nil {
			return err
		}
		lost := int64(0)
		for _, x := range refused {
			lost += x.Samples
			if len(r.Refusals) < mostRefusals {
				r.Refusals = append(r.Refusals, x)
			}
		}
		r.Refused += lost
		r.Sent += int64(n) - lost
		request, n = request[:0], 0
		return nil
	}
	for _, s := range columns {
		for samples := range slices.Chunk(s.Samples, requestSamples) {
			if n+len(samples) > requestSamples {
				if err := flush(); err != nil {
					return err
				}
			}
			request, n = append(request, deliver.Series{Labels: s.Labels, Samples: samples}), n+len(samples)
		}
	}
	return flush()
}

// ErrRefused is the error of a command whose receiver refused samples.
var ErrRefused = errors.New("the receiver refused samples")
