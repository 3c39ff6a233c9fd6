package web

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

//go:embed landing.html
var landingHTML string

var landingPage = template.Must(template.New("landing").Parse(landingHTML))

// page is the data of the template.
type page struct {
	Version  string
	NotReady string
	Error    string
	Problems []problem // of the collector
	Unknown  bool      // the collector could not be asked for its problems
	NoZones  bool      // the collector has no zone, so "complete" means nothing
	// NoAccounts: the same for datasets about accounts.
	NoAccounts bool
	Status     bool // there is a status page
	Simulated  bool
	Store      string
	Revision   uint64
	Progress   string
	Age        time.Duration
	Counters   string // why there is no page of counters
	// Compat: there is a compatibility page; Missing are the datasets that it lacks.
	Compat   bool
	Missing  []string
	Samples  int
	Held     int
	Hours    int
	Stamp    string
	Expires  string
	Datasets []row
	Example  string // a family that has samples, preferably an additive total
	Dataset  string // of Example
	By       string // label of its scopes
	Host     string // of the request
	sums     bool   // Example is an additive total
	Range    string // a PromQL range that covers at least one bucket of Example
}

type row struct {
	ID, Description, Short      string
	Unserved                    string // what became final too late for the replay
	Size, Span                  string // Span: how long its samples stay on /metrics
	Depth, Held, Served         int
	TrimmedTotals, TrimmedBreak int
	Oldest, Newest              string
}

func (h *handler) landing(w http.ResponseWriter, r *http.Request) {
	if limitOf(r) != selection.Everything {
		h.forbid(w, "this page is about all zones, and the token may read some; it may read /metrics, /counters, /backfill, /status and /status.json")
		return
	}
	if !h.pages.TryAcquire() {
		full(w, "too many concurrent requests for the landing page; try again")
		return
	}
	defer h.pages.Release()
	p := page{Version: h.Version, Status: h.Inquiry != nil, Hours: h.Board.Hours(), Host: r.Host}
	if err := h.Board.Ready(); err != nil {
		p.NotReady = err.Error()
	}
	if state := h.Board.State(); state != nil {
		p.Store, p.Revision, p.Simulated, p.Stamp = state.Store.ID, uint64(state.Position.Revision), state.Store.Simulated, state.Store.Stamp.String()
		p.Held = state.Samples
	}
	if progress := h.Board.Progress(); !progress.IsZero() {
		p.Progress = progress.UTC().Format(time.RFC3339)
		p.Age = h.Board.Now().Sub(progress).Truncate(time.Second)
	}
	if h.Counters == nil {
		p.Counters = "not served (WEIR_EXPOSER_COUNTERS)"
	} else if err := h.Counters.State().Err; err != nil {
		p.Counters = "answers 503: " + err.Error()
	}
	if h.Compat != nil {
		p.Compat, p.Missing = true, h.Compat.MissingDatasets(sample.MillisOf(h.Board.Now()))
	}
	var err error
	if p.Problems, err = h.problems.get(r.Context()); err != nil {
		p.Unknown = true // the client that follows the collector logs the reason
	}
	told := func(code string) bool {
		return slices.ContainsFunc(p.Problems, func(one problem) bool { return one.Code == code })
	}
	p.NoZones, p.NoAccounts = told("NO_ZONES"), told("NO_ACCOUNTS")
	v, err := h.Board.View(view.Default)
	switch {
	case err == nil:
		p.show(v, h.Board.Unserved)
	case p.NotReady == "":
		p.Error = err.Error()
	}
	var buf bytes.Buffer
	if err := landingPage.Execute(&buf, p); err != nil {
		h.often.Error("", "landing page could not be rendered", "err", err)
		text(w, http.StatusInternalServerError, "the page could not be rendered; see the exposer's log")
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	header.Set("X-Content-Type-Options", "nosniff")
	setWriteDeadline(w, time.Now().Add(h.limits.answer))
	_, _ = w.Write(buf.Bytes())
}

func (p *page) show(v *view.View, unserved func(dataset string) view.Unserved) {
	p.Samples = v.Choice.Samples
	if !v.Choice.Expires.IsZero() {
		p.Expires = v.Choice.Expires.UTC().Format(time.RFC3339)
	}
	stamp, maxAge := v.State.Store.Stamp, time.Duration(p.Hours)*time.Hour
	for i := range v.Choice.Datasets {
		d := &v.Choice.Datasets[i]
		r := row{
			ID: d.Dataset, Description: d.Description, Size: bucket.SizeName(d.Size),
			Depth: d.Depth, Held: d.Len(), Served: max(d.Windows(0), d.Windows(1)),
			TrimmedTotals: d.Trimmed[0], TrimmedBreak: d.Trimmed[1],
		}
		if d.Len() > 0 {
			oldest, newest := d.Ends()
			r.Oldest, r.Newest = oldest.String(), newest.String()
		}
		r.Span = d.Span(stamp, maxAge).String()
		if u := unserved(d.Dataset); u.Buckets > 0 {
			r.Unserved = fmt.Sprintf("never shown: %d buckets that were older than %d h when they became final, of windows from %s to %s; backfill them", u.Buckets, p.Hours, u.Windows.Start, u.Windows.End)
		}
		if err := cmp.Or(recent.Check(d.Definition, stamp, maxAge), recent.Shallow(d.Definition, stamp, maxAge)); err != nil {
			r.Short = err.Error()
		}
		if f := d.Families[0]; r.Served > 0 && (p.Example == "" || !p.sums && f.Role == bucket.Total && f.Additive) {
			p.Example, p.Range = f.Name, bucket.SizeName(max(24*time.Hour, d.Size))
			p.sums = f.Role == bucket.Total && f.Additive
			p.Dataset, p.By = d.Dataset, d.ScopeKind.String()
		}
		p.Datasets = append(p.Datasets, r)
	}
}
