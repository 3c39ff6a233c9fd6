package push

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// Start is where a push begins that has no cursor.
type Start struct {
	// Beginning: with the first entry of the log. Age: with the buckets of the store whose
	// windows are younger. Neither: with what is committed from now on.
	Beginning bool
	Age       time.Duration
}

// Config of a push. Every field is required but those that say otherwise.
type Config struct {
	Conn grpc.ClientConnInterface // to the collectors
	To   deliver.Sender
	// Labels are added to every series, save where it has one of the name.
	Labels []export.Label
	// Repeatable: the destination holds a sample once that is sent again, so an accepted one
	// may be repeated to find out whether it takes anything.
	Repeatable bool
	File       *CursorFile
	Cursor     *Cursor // nil: there is none
	Start      Start
	Report     string // path, of [ReportFile]
	// MaxLag is the lag above which the push is not ready.
	MaxLag time.Duration
	// Grace is how long a batch may continue after the end of the context.
	Grace   time.Duration
	Min     time.Duration // first pause after a failure
	Max     time.Duration // longest
	Backoff client.Backoff
	Clock   clock.Clock
	Logger  *slog.Logger
	Meter   *Meter
	Seed    uint64 // of the pauses; 0: random
}

// Pusher sends the log to one destination. Use [New]; run it once.
type Pusher struct {
	Config
	divider  *deliver.Divider
	patience *deliver.Patience
	often    *quiet.Log
	refused  []refusal // of the batch that is being sent

	mu      sync.Mutex
	began   time.Time
	until   time.Time // up to when the destination has everything; zero: unknown
	reached bool      // a stream or a list of entries has begun
	history *History  // what is listed; nil: nothing
	moved   time.Time // when the place in it was moved
	halted  string    // why there is none; empty: there is
	blocked string    // what the destination does instead; empty: it takes samples
}

// refusal is samples of one bucket that were refused.
type refusal struct {
	reason  deliver.Reason
	text    string
	samples map[int]int64 // by part of the batch
}

// New returns a push that has done nothing yet.
func New(c Config) *Pusher {
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	p := &Pusher{Config: c, often: quiet.New(c.Logger, time.Minute), began: c.Clock.Now()}
	if c.Cursor != nil {
		p.noted(c.Cursor)
		if ahead := c.Cursor.Until.Sub(p.began); ahead > 0 {
			p.often.Warn("cursor", "the cursor is of the future; its time is not used", "acknowledged_until", c.Cursor.Until, "ahead", ahead)
			p.until = time.Time{}
		}
	}
	p.patience = &deliver.Patience{To: timed{c.To, c.Meter}, Min: c.Min, Max: c.Max, Failed: p.failed, Random: rand.New(rand.NewPCG(c.Seed, 1))}
	p.divider = &deliver.Divider{
		Send: p.patience.Send, Refused: p.note, Doubt: true, Control: c.Repeatable, Fresh: p.fresh, Now: c.Clock.Now,
	}
	c.Meter.lag.of = p.Lag
	return p
}

// controlFamily is the family of samples that show whether a destination takes anything.
var controlFamily = bucket.Family{Name: "weir_push_control", Help: "1, at the time at which weir push asked whether the destination takes samples."}

// fresh is a series with a sample of this moment, which a destination takes that takes anything.
func (p *Pusher) fresh() []deliver.Series {
	now := p.Clock.Now()
	labels := append([]export.Label{{Name: "__name__", Value: controlFamily.Name}}, p.Labels...)
	slices.SortFunc(labels, deliver.CompareLabels)
	at := bucket.TimeOf(now)
	return []deliver.Series{{Labels: labels, Family: &controlFamily, Samples: []deliver.Sample{
		{At: sample.MillisOf(now), Value: 1, Window: bucket.Window{Start: at, End: at}},
	}}}
}

// timed measures requests.
type timed struct {
	deliver.Sender
	meter *Meter
}

// Send implements [deliver.Sender].
func (t timed) Send(ctx context.Context, series []deliver.Series) error {
	began := time.Now()
	err := t.Sender.Send(ctx, series)
	t.meter.seconds.Observe(time.Since(began).Seconds())
	return err
}

// HaltError means that the cursor has no place in the log of the collector, or that the
// destination's answer neither acknowledges what was sent nor allows to send it again.
type HaltError struct {
	Reason string // one of [Halts]
	Err    error
}

func (e *HaltError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *HaltError) Unwrap() error { return e.Err }

// haltPause is the time until a halted push asks again.
const haltPause = time.Minute

// Run pushes until ctx ends.
func (p *Pusher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.session(ctx); ctx.Err() == nil {
			if p.halt(err) == unanswered {
				<-ctx.Done() // only a new process sends it again
				return nil
			}
			_ = deliver.Sleep(ctx, haltPause) // its error is the end of ctx
		}
	}
	return nil
}

// unanswered is the reason of a halt after which nothing is sent again.
const unanswered = "ANSWER"

// halt says why a session has ended, and returns the reason.
func (p *Pusher) halt(err error) string {
	halt := &HaltError{Reason: "CONTRACT", Err: err}
	errors.As(err, &halt)
	p.setHalted(halt.Reason)
	if halt.Reason == unanswered {
		p.often.Error(halt.Reason, "push halted: the destination may have taken a request, and its answer does not say so; see docs/push.md", "reason", halt.Reason, "err", err)
		return halt.Reason
	}
	p.often.Error(halt.Reason, "push halted: its cursor has no place in the log; see docs/push.md", "reason", halt.Reason, "err", err, "retry_in", haltPause)
	return halt.Reason
}

// session follows the log from the cursor until ctx ends or the cursor has no place in it.
func (p *Pusher) session(parent context.Context) error {
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	h := &handler{p: p, ctx: ctx, end: end, phase: defining}
	// The definitions of all datasets, whose entries the cursor may have passed, and the
	// head of the log.
	if err := p.follow(parent, ctx, h, client.Options{}); !errors.Is(err, errDefined) {
		return err
	}
	ctx, end = context.WithCancelCause(parent)
	defer end(nil)
	h.ctx, h.end, h.batch = ctx, end, newBatch(p.Labels)
	if p.Cursor == nil {
		if err := h.keep(h.first()); err != nil {
			return err
		}
	}
	if p.Cursor.StoreID != h.store.ID {
		return &HaltError{"OTHER_STORE", fmt.Errorf("the cursor is of the store %s, and the collector has the store %s", p.Cursor.StoreID, h.store.ID)}
	}
	h.phase = listing
	if err := h.history(); err != nil {
		return err
	}
	h.phase = following
	return p.follow(parent, ctx, h, client.Options{Resume: resume(p.Cursor)})
}

// follow runs a follower and returns why it ended.
func (p *Pusher) follow(parent, ctx context.Context, h *handler, o client.Options) error {
	o.Logger, o.Backoff, o.Seed = p.Logger, p.Backoff, p.Seed
	f, err := client.New(p.Conn, o)
	if err != nil {
		return err
	}
	if err := f.Run(ctx, h); err != nil && parent.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}

// reason returns the halt that the end of a stream means, or "".
func reason(err error) string {
	switch r := client.Reason(err); r {
	case client.ReasonCompacted, client.ReasonOtherStore, client.ReasonHistoryChanged, client.ReasonFutureRevision:
		return r
	}
	switch {
	case errors.Is(err, client.ErrContract), status.Code(err) == codes.InvalidArgument:
		return "CONTRACT"
	case status.Code(err) == codes.OutOfRange:
		return client.ReasonCompacted
	case status.Code(err) == codes.FailedPrecondition:
		return client.ReasonHistoryChanged
	}
	return ""
}

// failed is told about each failure that the patience tries again.
func (p *Pusher) failed(err error, retryIn time.Duration) {
	cause, what := "error", "the destination answers with an error; the log has it"
	var busy *deliver.BusyError
	var told *deliver.StatusError
	var answer *deliver.AnswerError
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.As(err, &answer):
		what = answer.Error()
	case errors.As(err, &unverified):
		what = "the destination's certificate cannot be verified: " + unverified.Err.Error()
	case errors.As(err, &busy) && busy.Status == 0:
		cause, what = "unreachable", "the destination does not answer"
	case busy != nil:
		cause, what = "busy", fmt.Sprintf("the destination answers with %d", busy.Status)
	case errors.As(err, &told):
		what = fmt.Sprintf("the destination answers with %d", told.Status)
	}
	p.block(cause, what)
	p.often.Warn(cause+quiet.Cause(err), "request failed, trying again", "err", err, "retry_in", retryIn)
}

// note notes samples that were refused for good.
func (p *Pusher) note(series []deliver.Series, reason deliver.Reason, text string) {
	r := refusal{reason, text, map[int]int64{}}
	for i := range series {
		for _, x := range series[i].Samples {
			r.samples[x.From]++
		}
	}
	p.refused = append(p.refused, r)
}

// send sends a batch until the destination has all of it that it takes.
func (p *Pusher) send(ctx context.Context, b *batch) error {
	all := b.all()
	for failed := 1; ; failed++ {
		p.refused = p.refused[:0]
		err := p.once(ctx, all)
		if err == nil {
			break
		}
		if !errors.Is(err, deliver.ErrEverything) {
			return err // told to end
		}
		pause := p.patience.Pause(failed)
		p.block("everything", "the destination refuses everything, also what it took before or a fresh sample; the log has the reason")
		p.often.Error("everything", "the destination refuses everything, trying again", "err", err, "retry_in", pause)
		if err := p.patience.Sleep(ctx, pause); err != nil {
			return err
		}
	}
	windows, lost := p.settle(b)
	if err := p.persist(ctx, func() error { return (&Report{p.Config.Report, b.store}).Add(windows) }); err != nil {
		return err
	}
	p.unblock()
	p.Meter.samples.Add(float64(int64(b.samples) - lost))
	p.Meter.hidden.Add(float64(b.hidden))
	p.Meter.age.Set(p.divider.Age().Seconds())
	return nil
}

func (p *Pusher) once(ctx context.Context, all []deliver.Series) error {
	for _, request := range requests(all) {
		if err := p.divider.Deliver(ctx, request); err != nil {
			return err
		}
	}
	return nil
}

// settle counts what was refused, and returns its windows for the report.
func (p *Pusher) settle(b *batch) (windows []refused, lost int64) {
	for _, r := range p.refused {
		n := int64(0)
		for from, samples := range r.samples {
			n += samples
			windows = append(windows, refused{part: b.parts[from], reason: string(r.reason), samples: samples})
		}
		lost += n
		p.Meter.refused.WithLabelValues(string(r.reason)).Add(float64(n))
		p.often.Warn(string(r.reason), "the destination refuses samples; their windows are in the report", "reason", string(r.reason), "samples", n, "text", r.text, "report", p.Config.Report)
	}
	return merged(windows), lost
}

// persist writes to the disk until that works: what is not kept must not be left behind.
func (p *Pusher) persist(ctx context.Context, write func() error) error {
	for failed := 1; ; failed++ {
		err := write()
		if err == nil {
			if failed > 1 {
				p.unblock()
			}
			return nil
		}
		pause := p.patience.Pause(failed)
		p.block("error", "the cursor or the report cannot be written; the log has the error")
		p.often.Error("persist", "cannot write, trying again", "err", err, "retry_in", pause)
		if err := p.patience.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (p *Pusher) save(c *Cursor) error {
	if err := p.File.Save(c); err != nil {
		return err
	}
	p.Cursor = c
	p.noted(c)
	return nil
}
