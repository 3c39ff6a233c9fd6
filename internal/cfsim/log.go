package cfsim

import (
	"slices"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/query"
)

// Request is one entry of the request log. No token value is ever in it.
type Request struct {
	Time    time.Time `json:"time"` // of the simulator's clock
	Kind    string    `json:"kind"` // "graphql" or "rest"
	Method  string    `json:"method"`
	Path    string    `json:"path"`            // of the URL, with its query
	Token   string    `json:"token,omitempty"` // id
	User    string    `json:"user,omitempty"`
	RayID   string    `json:"ray"`
	Status  int       `json:"status"` // as sent; 0 when the connection was cut before
	Outcome string    `json:"outcome"`
	// Message is the error's, when there was one.
	Message   string        `json:"message,omitempty"`
	Fault     FaultKind     `json:"fault,omitempty"`
	Operation string        `json:"operation,omitempty"`
	Zones     []string      `json:"zones,omitempty"` // all zone tags asked for, each once
	Queries   []Query       `json:"queries,omitempty"`
	Bytes     int           `json:"bytes"` // of the body before compression
	Took      time.Duration `json:"took"`  // of this machine
}

// Query is one dataset asked of one zone or account.
type Query struct {
	Alias   string    `json:"alias"`
	Dataset string    `json:"dataset"`
	Scope   string    `json:"scope"` // "zone" or "account"
	Tag     string    `json:"tag"`
	From    time.Time `json:"from"` // span of event time; zero when unbounded
	To      time.Time `json:"to"`
	Limit   int       `json:"limit"`
	Rows    int       `json:"rows"` // -1 when it was not answered
}

func (r *Request) addZone(tag string) {
	if !slices.Contains(r.Zones, tag) {
		r.Zones = append(r.Zones, tag)
	}
}

func (r *Request) addQuery(p *pending) {
	q := Query{Alias: p.sel.field.Alias, Dataset: p.sel.dataset.Name, Scope: string(p.sel.scope), Tag: p.tag, Limit: p.sel.limit, Rows: -1}
	if h := p.sel.filter.Hull(); h != query.Forever {
		if h.From > query.Forever.From {
			q.From = time.Unix(h.From, 0).UTC()
		}
		if h.To < query.Forever.To {
			q.To = time.Unix(h.To, 0).UTC()
		}
	}
	r.Queries = append(r.Queries, q)
}

func (r *Request) setRows(p *pending, rows int) {
	for i := range r.Queries {
		if q := &r.Queries[i]; q.Alias == p.sel.field.Alias && q.Tag == p.tag && q.Rows < 0 {
			q.Rows = rows
			return
		}
	}
}

// datasets are the names asked for, each once.
func (r *Request) datasets() []string {
	var out []string
	for _, q := range r.Queries {
		if !slices.Contains(out, q.Dataset) {
			out = append(out, q.Dataset)
		}
	}
	return out
}

// Counters are totals since the start; unlike the log they are never cut.
type Counters struct {
	GraphQL  int               `json:"graphql"`
	REST     int               `json:"rest"`
	Outcomes map[string]int    `json:"outcomes"` // requests by outcome
	Faults   map[FaultKind]int `json:"faults"`
	Rows     int               `json:"rows"`
	MaxZones int               `json:"max_zones"` // most zones in one request
	// PeakQueries is the most GraphQL requests, refused ones included, that one
	// user sent within any span of the budget's window.
	PeakQueries int `json:"peak_queries"`
}

// requestLog keeps the newest requests.
type requestLog struct {
	mu      sync.Mutex
	limit   int
	entries []Request
	counts  Counters
}

func newRequestLog(limit int) *requestLog {
	if limit <= 0 {
		limit = 20_000
	}
	return &requestLog{limit: limit, counts: Counters{Outcomes: map[string]int{}, Faults: map[FaultKind]int{}}}
}

func (l *requestLog) add(r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) >= l.limit {
		l.entries = slices.Delete(l.entries, 0, l.limit/10+1)
	}
	l.entries = append(l.entries, r)
	if r.Kind == "graphql" {
		l.counts.GraphQL++
	} else {
		l.counts.REST++
	}
	l.counts.Outcomes[r.Outcome]++
	if r.Fault != "" {
		l.counts.Faults[r.Fault]++
	}
	for _, q := range r.Queries {
		l.counts.Rows += max(q.Rows, 0)
	}
	l.counts.MaxZones = max(l.counts.MaxZones, len(r.Zones))
}

// peak notes that a user has sent n GraphQL requests within the window.
func (l *requestLog) peak(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.PeakQueries = max(l.counts.PeakQueries, n)
}

// Requests is the request log, oldest first.
func (s *Server) Requests() []Request {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	return slices.Clone(s.requests.entries)
}

// ClearRequests empties the request log. The counters go on.
func (s *Server) ClearRequests() {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	s.requests.entries = nil
}

// Counters are totals over all requests since the start.
func (s *Server) Counters() Counters {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	c := s.requests.counts
	c.Outcomes, c.Faults = map[string]int{}, map[FaultKind]int{}
	for k, v := range s.requests.counts.Outcomes {
		c.Outcomes[k] = v
	}
	for k, v := range s.requests.counts.Faults {
		c.Faults[k] = v
	}
	return c
}
