package importer

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// RemoteWrite sends with remote write 1.0, which every receiver takes.
type RemoteWrite struct {
	to     *deliver.Patience
	window time.Duration
	clock  clock.Clock
}

// NewRemoteWrite returns a sender to the URL of a receiver, such as
// http://prometheus:9090/api/v1/write. The client adds credentials; redirects to another
// server are refused. The window is the
// receiver's out-of-order window, for one that does not tell it; 0: nobody knows it.
func NewRemoteWrite(target string, client *http.Client, window time.Duration, clk clock.Clock) (*RemoteWrite, error) {
	to, err := deliver.NewRemoteWrite(target, client, clk.Now)
	if err != nil {
		return nil, err
	}
	return &RemoteWrite{&deliver.Patience{To: to, Min: 500 * time.Millisecond, Max: 10 * time.Second, Attempts: 10}, window, clk}, nil
}

// Flush implements [Sender].
func (*RemoteWrite) Flush(context.Context) error { return nil }

// inOrder is how far behind its newest sample Prometheus takes samples without an
// out-of-order window: half of the two hours of a block.
const inOrder = time.Hour

// Limits implements [Sender].
func (w *RemoteWrite) Limits(ctx context.Context, prom *promapi.Client) (Limits, error) {
	window, err := prom.OutOfOrder(ctx)
	if err == nil {
		var head promapi.Head
		if head, err = prom.Head(ctx); err == nil {
			if window == 0 {
				return Limits{Oldest: head.Max - sample.Millis(inOrder.Milliseconds()), Notes: []string{"Prometheus has no out-of-order window: it takes samples of the last hour, and of each series only those that are newer than its newest"}}, nil
			}
			oldest := head.Max - sample.Millis(window.Milliseconds())
			return Limits{Oldest: oldest, Notes: []string{fmt.Sprintf("Prometheus takes samples from %s on (out_of_order_time_window %s)", oldest.Std().Format(time.RFC3339), window)}}, nil
		}
	}
	switch {
	case !promapi.IsUnknown(err):
		return Limits{}, err
	case w.window == 0:
		return Limits{Unknown: true}, nil
	}
	// The receiver counts from its newest sample, which is a scrape interval old.
	oldest := sample.MillisOf(w.clock.Now().Add(-w.window))
	return Limits{Oldest: oldest, Notes: []string{fmt.Sprintf("the receiver takes samples from %s on (--out-of-order-window %s)", oldest.Std().Format(time.RFC3339), w.window)}}, nil
}

// Send implements [Sender]. A refused request is divided until what is refused stands alone.
func (w *RemoteWrite) Send(ctx context.Context, series []deliver.Series) ([]Refusal, error) {
	var all []Refusal
	divider := deliver.Divider{
		Send: w.to.Send,
		Refused: func(series []deliver.Series, _ deliver.Reason, text string) {
			for _, s := range series {
				all = append(all, Refusal{Series: Text(s.Labels), First: s.Samples[0].At.Std(), Last: s.Samples[len(s.Samples)-1].At.Std(), Samples: int64(len(s.Samples)), Reason: text})
			}
		},
	}
	err := divider.Deliver(ctx, series)
	return join(all), err
}

// join joins refusals of one series for one reason that follow one another.
func join(all []Refusal) (out []Refusal) {
	for _, r := range all {
		if n := len(out); n > 0 && out[n-1].Series == r.Series && alike(out[n-1].Reason, r.Reason) {
			out[n-1].Last, out[n-1].Samples = r.Last, out[n-1].Samples+r.Samples
			continue
		}
		out = append(out, r)
	}
	return out
}

var digits = regexp.MustCompile(`[0-9]+`)

// alike compares reasons, which may name a time.
func alike(a, b string) bool {
	return digits.ReplaceAllString(a, "") == digits.ReplaceAllString(b, "")
}

func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}
