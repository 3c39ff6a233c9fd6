package web

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
	"github.com/weir-metrics/weir/services/exposer/internal/statuspage"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

//go:embed status
var statusFiles embed.FS

// documents is where the links of the page lead to.
const documents = "https://github.com/weir-metrics/weir/blob/main/docs/operations.md#"

var statusPages = template.Must(template.New("status").Funcs(template.FuncMap{
	"ago": statuspage.Ago, "bars": bars, "runs": runs, "legend": statuspage.Legend, "help": statuspage.Help, "plain": plain,
	"doc":    func(anchor string) string { return documents + anchor },
	"utc":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"minute": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") },
	"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}).ParseFS(statusFiles, "status/*.html"))

// plain is a name with what cannot be seen written out: a name from elsewhere may have
// characters that turn the direction of the text around.
func plain(name string) string {
	var out strings.Builder
	for _, r := range name {
		if strconv.IsPrint(r) {
			out.WriteRune(r)
		} else {
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

// statusPolicy lets the browser load nothing but the two files beside the page.
const statusPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// handleStatus adds the status page, or says that it is off.
func (h *handler) handleStatus(mux *http.ServeMux) {
	if h.Inquiry == nil {
		off := func(w http.ResponseWriter, _ *http.Request) {
			text(w, http.StatusNotFound, "the status page is not served: WEIR_EXPOSER_STATUS is false")
		}
		mux.HandleFunc("GET /status", off)
		mux.HandleFunc("GET /status.json", off)
		mux.HandleFunc("GET /status/", off)
		return
	}
	mux.HandleFunc("GET /status", h.statusPage("overview", "status/", "", statuspage.Overview))
	mux.HandleFunc("GET /status/scope", h.statusPage("scope", "", "../", statuspage.Single))
	mux.HandleFunc("GET /status.json", h.statusPage("", "", "", statuspage.Both))
	mux.HandleFunc("GET /status/style.css", asset("status/style.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /status/script.js", asset("status/script.js", "text/javascript; charset=utf-8"))
}

func asset(name, kind string) http.HandlerFunc {
	content, err := statusFiles.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		setWriteDeadline(w, time.Now().Add(defaultLimits.answer))
		w.Header().Set("Content-Type", kind)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "max-age=60") // so that an upgrade shows soon
		_, _ = w.Write(content)
	}
}

// rendered is the data of the templates.
type rendered struct {
	*statuspage.Page
	Assets, Root string // the way to the files of the page, and to the landing page
	One          *statuspage.Scope
	Wanted       string // what a page of one scope was asked for
}

// Same is the query of this page, for /status.json.
func (r rendered) Same() string {
	if r.Wanted == "" {
		return r.Query.URL(r.Page.Page)
	}
	return "?" + r.single(r.Query.Range)
}

// Other is the query of this page with the other range.
func (r rendered) Other() template.URL {
	other := "retention"
	if r.Query.Range == other {
		other = "replay"
	}
	if r.Wanted != "" {
		return template.URL(r.single(other)) //nolint:gosec // values are encoded
	}
	q := r.Query
	q.Range = other
	v, err := url.ParseQuery(strings.TrimPrefix(q.URL(r.Page.Page), "?"))
	if err == nil {
		v.Set("range", other)
	}
	return template.URL(v.Encode()) //nolint:gosec // values are encoded
}

func (r rendered) single(name string) string {
	v := url.Values{"range": {name}}
	if r.Query.ID != "" {
		v.Set("id", r.Query.ID)
	} else {
		v.Set("zone", r.Query.Zone)
	}
	return v.Encode()
}

// Stale reports whether the stream time is old.
func (r rendered) Stale() bool {
	lag := r.Exposer.LagSeconds
	return lag == nil || *lag > int64(statuspage.StreamStale/time.Second)
}

// Further is the query of the page that is so many pages further.
func (r rendered) Further(further int) string { return r.Query.URL(r.Page.Page + further) }

// choice is a value of the parameter show, with words for people.
type choice struct {
	Value, Word string
	Chosen      bool
	N           int // of scopes
	Query       string
}

var showWords = map[string]string{"problems": "with problems", "collected": "collected", "uncollected": "not collected", "all": "all"}

// Shows are the values of the parameter show.
func (r rendered) Shows() (out []choice) {
	for _, value := range statuspage.Shows() {
		q := r.Query
		q.Show = value
		word := cmp.Or(showWords[value], "with windows "+statuspage.State(value).Word())
		out = append(out, choice{Value: value, Word: word, Chosen: value == r.Query.Show, N: r.ByState[value], Query: q.URL(1)})
	}
	return out
}

// States are the choices by state that find something, and the present one.
func (r rendered) States() (out []choice) {
	for _, c := range r.Shows() {
		if _, counted := r.ByState[c.Value]; counted || c.Chosen && r.Query.ByState() {
			c.Word = cmp.Or(showWords[c.Value], statuspage.State(c.Value).Word())
			out = append(out, c)
		}
	}
	return out
}

// Unchosen reports whether it is not known which scopes the query chooses.
func (r rendered) Unchosen() bool { return r.ByState == nil && r.Query.ByState() }

// Strip is a series with the range that its cells are of.
func (r rendered) Strip(s statuspage.Series) any {
	return struct {
		statuspage.Series
		Range statuspage.Range
	}{s, r.Range}
}

// Named is a scope with the way to its page.
func (r rendered) Named(s statuspage.Scope) any {
	return struct {
		statuspage.Scope
		Assets string
	}{s, r.Assets}
}

// statusPage serves a page by the name of its template; without one as JSON.
func (h *handler) statusPage(name, assets, root string, parameters []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := statuspage.Parse(r.URL.RawQuery, parameters)
		if err == nil && name == "scope" && q.ID == "" && q.Zone == "" {
			err = errors.New(`parameter id is empty; it must be the id of a zone or account, or zone the name of a zone`)
		}
		if err != nil {
			text(w, http.StatusBadRequest, err.Error())
			return
		}
		if !h.statuses.TryAcquire() {
			full(w, "too many concurrent requests for the status page; try again")
			return
		}
		defer h.statuses.Release()
		page, err := h.model(r, q)
		if err != nil {
			text(w, http.StatusBadRequest, err.Error())
			return
		}
		named := func(a statuspage.Account) bool { return a.ID == q.Account }
		if limitOf(r) != selection.Everything && q.Account != "" && page.Collector.Known && !slices.ContainsFunc(page.Accounts, named) {
			h.forbid(w, fmt.Sprintf("parameter account is %q, which is not among the zones and accounts that this token may read", bucket.Clip(q.Account)))
			return
		}
		data := rendered{Page: page, Assets: assets, Root: root, Wanted: cmp.Or(q.ID, q.Zone)}
		code := http.StatusOK
		if data.Wanted != "" {
			switch {
			case len(page.Scopes) == 1:
				data.One = &page.Scopes[0]
			case page.Collector.Known && limitOf(r) != selection.Everything:
				h.forbid(w, fmt.Sprintf("%q is not among the zones and accounts that this token may read", bucket.Clip(data.Wanted)))
				return
			case page.Collector.Known:
				code = http.StatusNotFound
			default:
				code = http.StatusServiceUnavailable
			}
		}
		h.sendStatus(w, name, code, data)
	}
}

// model asks the collector, if what it said last is old, and builds the model of a page. The
// error is about the query.
func (h *handler) model(r *http.Request, q statuspage.Query) (*statuspage.Page, error) {
	limit := limitOf(r)
	in := statuspage.Input{Now: h.Board.Now(), Query: q, Exposer: h.itself(limit), Answer: h.Inquiry.General(r.Context())}
	old, shown := statuspage.LateAfter, statuspage.RangeOf(in.Now, q, in.Exposer, in.Answer)
	if shown.Name == "retention" {
		old = time.Duration(h.Board.Hours()) * time.Hour
	}
	if q.ID == "" && q.Zone == "" {
		in.Survey = h.Inquiry.Survey(r.Context(), in.Answer, shown, old, q.ByState())
	}
	if limit != selection.Everything {
		in.Answer = in.Answer.Only(limit.Match())
	}
	chosen, err := statuspage.Select(in.Now, q, in.Exposer, in.Answer, in.Survey.Found)
	if err != nil {
		return nil, err
	}
	in.Coverage = h.Inquiry.Coverage(r.Context(), chosen.Scopes, q.Dataset, chosen.Range, old)
	if limit != selection.Everything {
		in.Coverage = in.Coverage.Only()
	}
	return statuspage.Build(in, chosen), nil
}

func (h *handler) sendStatus(w http.ResponseWriter, name string, code int, data rendered) {
	var buf bytes.Buffer
	kind, err := "text/html; charset=utf-8", error(nil)
	if name == "" {
		kind, err = "application/json", json.NewEncoder(&buf).Encode(data.Page)
	} else {
		err = statusPages.ExecuteTemplate(&buf, name, data)
	}
	if err != nil {
		h.often.Error("", "status page could not be rendered", "err", err)
		text(w, http.StatusInternalServerError, "the page could not be rendered; see the exposer's log")
		return
	}
	header := w.Header()
	header.Set("Content-Type", kind)
	header.Set("Content-Length", strconv.Itoa(buf.Len()))
	header.Set("Content-Security-Policy", statusPolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer") // the address has names of zones
	header.Set("Cache-Control", "no-store")
	setWriteDeadline(w, time.Now().Add(h.limits.answer))
	w.WriteHeader(code)
	_, _ = w.Write(buf.Bytes())
}

// itself is what the exposer knows without the collector, of what a client may read.
func (h *handler) itself(limit selection.Selection) statuspage.Exposer {
	e := statuspage.Exposer{Version: h.Version, Hours: h.Board.Hours(), Datasets: map[string]statuspage.Replay{}, CountersOff: h.Counters == nil}
	if err := h.Board.Ready(); err != nil {
		e.NotReady = err.Error()
	}
	if h.Counters != nil {
		if err := h.Counters.State().Err; err != nil {
			e.Counters = err.Error()
		}
	}
	if progress := h.Board.Progress(); !progress.IsZero() {
		progress = progress.UTC()
		lag := int64(h.Board.Now().Sub(progress) / time.Second)
		e.Progress, e.LagSeconds = &progress, &lag
	}
	state := h.Board.State()
	if state == nil {
		return e
	}
	e.Store, e.Revision, e.Simulated = state.Store.ID, uint64(state.Position.Revision), state.Store.Simulated
	query := view.Default
	query.Only = limit
	v, err := h.Board.View(query)
	if err != nil {
		e.Refused = err.Error()
		return e
	}
	e.Samples = v.Choice.Samples
	maxAge := time.Duration(e.Hours) * time.Hour
	for i := range v.Choice.Datasets {
		d := &v.Choice.Datasets[i]
		unserved := h.Board.Unserved(d.Dataset)
		shown := statuspage.Replay{
			Windows: max(d.Windows(0), d.Windows(1)), Held: d.Len(), Trimmed: max(d.Trimmed[0], d.Trimmed[1]),
			SpanSeconds: int64(d.Span(state.Store.Stamp, maxAge) / time.Second),
		}
		if limit == selection.Everything { // it is counted of all zones together
			shown.Unserved = unserved.Buckets
		}
		if shown.Unserved > 0 {
			last := unserved.Last.UTC()
			shown.UnservedAt = &last
		}
		if err := cmp.Or(recent.Check(d.Definition, state.Store.Stamp, maxAge), recent.Shallow(d.Definition, state.Store.Stamp, maxAge)); err != nil {
			shown.Short = err.Error()
		}
		e.Datasets[d.Dataset] = shown
	}
	return e
}

// bar is a rectangle of a cell, in tenths of the height of a strip: states differ by shape
// as well as by colour.
type bar struct {
	Y, H int
	Name string // of the class
}

var shapes = map[statuspage.State][]bar{
	statuspage.Final:      {{0, 10, "good"}},
	statuspage.Late:       {{0, 3, "wait"}, {3, 7, "good"}},
	statuspage.Due:        {{6, 4, "wait"}},
	statuspage.Waiting:    {{3, 7, "wait"}},
	statuspage.Refused:    {{4, 2, "dim"}},
	statuspage.Accepted:   {{2, 2, "dim"}, {6, 2, "dim"}},
	statuspage.Unserved:   {{0, 5, "warn"}, {8, 2, "warn"}},
	statuspage.Missing:    {{0, 4, "bad"}, {6, 4, "bad"}},
	statuspage.Unreadable: {{0, 2, "bad"}, {8, 2, "bad"}, {3, 4, "warn"}},
	statuspage.Lost:       {{0, 2, "bad"}, {4, 2, "bad"}, {8, 2, "bad"}},
	statuspage.Unknown:    {{0, 1, "warn"}, {9, 1, "warn"}},
	statuspage.NotDue:     {{9, 1, "dim"}},
	statuspage.NotWanted:  nil,
}

func bars(s statuspage.State) []bar {
	if shape, known := shapes[s]; known {
		return shape
	}
	return shapes[statuspage.Unknown]
}

// run is neighbouring cells in one state.
type run struct {
	X, W  int
	Bars  []bar
	Title string
}

func runs(r statuspage.Range, cells []statuspage.State) (out []run) {
	for from := 0; from < len(cells); {
		to := from + 1
		for to < len(cells) && cells[to] == cells[from] {
			to++
		}
		at := func(cell int) string {
			return r.Start.Add(time.Duration(cell) * time.Duration(r.CellSeconds) * time.Second).UTC().Format("Jan 2 15:04")
		}
		out = append(out, run{from, to - from, bars(cells[from]), fmt.Sprintf("%s to %s: %s", at(from), at(to), cells[from].Word())})
		from = to
	}
	return out
}
