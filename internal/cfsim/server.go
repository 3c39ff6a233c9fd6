package cfsim

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// Prefix is the path below which the API lives. A client's base URL is the
// server's URL with it.
const Prefix = "/client/v4"

// Server is a simulated Cloudflare. It is an [http.Handler] for the API; see
// [Server.Admin] for the handler that tests and people use. It is safe for
// concurrent use. Nothing runs between requests.
type Server struct {
	*world
	*rules
	gate

	config   *Config
	limits   Limits
	tokens   []*token
	queries  *budget // GraphQL
	offered  *budget // GraphQL too, refused requests included; has no limit
	calls    *budget // REST
	requests *requestLog

	served atomic.Uint64
}

// world is what there is and what happened in it, and how it is shown.
type world struct {
	config *Config
	zones  []*zone          // by tag
	places map[string]*zone // by account: what it has besides zones, as the one place where it happens
	faults *faultSet
	reads  atomic.Uint64
}

// rules are what may be asked.
type rules struct {
	config       *Config
	limits       Limits
	entitlements sync.Map // entitlementKey to Entitlement
}

// gate keeps out users that overran the REST limit.
type gate struct {
	mu      sync.Mutex
	blocked map[string]time.Time // until when
}

// New checks the configuration and returns a server. The error lists every
// mistake.
func New(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	limits := c.Limits.withDefaults()
	s := &Server{
		world: &world{config: &c, faults: &faultSet{seed: c.Seed}, places: map[string]*zone{}},
		rules: &rules{config: &c, limits: limits}, gate: gate{blocked: map[string]time.Time{}},
		config: &c, limits: limits, requests: newRequestLog(c.LogSize),
	}
	s.queries, s.calls, s.offered = newBudget(s.limits.Window), newBudget(s.limits.Window), newBudget(s.limits.Window)
	for _, z := range c.Zones {
		s.zones = append(s.zones, newZone(c.Seed, z))
	}
	for _, a := range c.Accounts {
		s.places[a.ID] = newPlace(c.Seed, &a)
	}
	slices.SortFunc(s.zones, func(a, b *zone) int { return cmp.Compare(a.ID, b.ID) })
	for _, t := range c.Tokens {
		if t.User == "" {
			t.User = t.ID
		}
		s.tokens = append(s.tokens, &token{Token: t})
	}
	for _, f := range c.Faults {
		s.faults.add(f)
	}
	return s, nil
}

// reply is an answer before it is sent.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// ServeHTTP implements [http.Handler]. To break a connection it panics with
// [http.ErrAbortHandler], as handlers do.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started, now := time.Now(), s.config.Clock.Now()
	entry := Request{
		Time: now, Kind: "rest", Method: r.Method, Path: r.URL.RequestURI(), Outcome: "ok",
		RayID: fmt.Sprintf("%016x-%s", traffic.Hash(s.config.Seed, 51, s.served.Add(1)), "SIM"),
	}
	path, inside := strings.CutPrefix(r.URL.Path, Prefix)
	if path == "/graphql" || path == "/graphql/" {
		entry.Kind = "graphql"
	}
	var out reply
	if inside {
		out = s.handle(r, path, now, &entry)
	} else {
		out = restRefuse(errNoRoute, &entry)
	}
	out.header.Set("CF-Ray", entry.RayID)
	out.header.Set("Date", now.UTC().Format(http.TimeFormat))
	out.header.Set("Server", "cloudflare")
	fault := s.faults.transport(occasion{token: entry.Token, path: r.URL.Path, zones: entry.Zones, datasets: entry.datasets()}, now)
	if fault != nil {
		entry.Fault = fault.Kind
		s.spoil(&out, fault, now, &entry)
	}
	entry.Status, entry.Bytes = out.status, len(out.body)
	if fault != nil && fault.Kind == FaultReset {
		entry.Status = 0
	}
	entry.Took = time.Since(started)
	s.requests.add(entry)
	if l := s.config.Logger; l != nil {
		l.Debug("request", "kind", entry.Kind, "path", r.URL.Path, "token", entry.Token, "queries", len(entry.Queries),
			"zones", len(entry.Zones), "outcome", entry.Outcome, "status", entry.Status, "fault", string(entry.Fault))
	}
	if s.config.Latency > 0 && !pause(r, s.config.Latency) {
		panic(http.ErrAbortHandler)
	}
	if s.config.Announce {
		out.header.Set(Announcement, "1")
	}
	send(w, r, out, fault)
}

// handle authenticates, applies the REST limit, and dispatches.
func (s *Server) handle(r *http.Request, path string, now time.Time, entry *Request) reply {
	t, refusal := s.authenticate(r, now)
	if t != nil {
		entry.Token, entry.User = t.ID, t.User
	}
	if refusal != nil {
		if entry.Kind == "graphql" && refusal == errAuthentication && s.config.Switches.ExpiredUnauthorized {
			out := s.refuse(errUnauthorized, now, entry)
			out.status = http.StatusUnauthorized
			return out
		}
		// The verify call is how one learns why a token does not work.
		if t == nil || !strings.HasSuffix(path, "/tokens/verify") || refusal == errInvalidToken {
			return restRefuse(refusal, entry)
		}
	}
	if wait := s.blockedFor(t.User, now); wait > 0 {
		return s.restOverrun(wait, entry)
	}
	if entry.Kind == "graphql" {
		left, _, _ := s.offered.take(t.User, 1, math.MaxInt, now)
		s.requests.peak(math.MaxInt - left)
		return s.graphql(r, t, now, entry)
	}
	left, _, ok := s.calls.take(t.User, 1, s.limits.RESTCalls, now)
	if !ok {
		s.block(t.User, now.Add(s.limits.Window))
		return s.restOverrun(s.limits.Window, entry)
	}
	out := s.rest(r, path, t, now, entry)
	out.header.Set("Ratelimit", fmt.Sprintf(`"default";r=%d;t=%d`, left, int(s.limits.Window.Seconds())))
	out.header.Set("Ratelimit-Policy", fmt.Sprintf(`"burst";q=%d;w=%d`, s.limits.RESTCalls, int(s.limits.Window.Seconds())))
	return out
}

func (s *gate) block(user string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked[user] = until
}

func (s *gate) blockedFor(user string, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocked[user].Sub(now)
}

// accountlyLimit is the budget of an account or zone in account-based mode.
func (s *Server) accountlyLimit(key string, now time.Time) int {
	scope, tag := cutKey(key)
	perSecond := 0
	if scope == "Account" && s.accountPlan(tag, now) == Enterprise {
		perSecond = 15
	}
	for _, z := range s.alive(now) {
		if scope == "Zone" && z.ID == tag && z.plan == Enterprise {
			perSecond = 10
		}
	}
	if perSecond == 0 {
		return s.limits.Queries
	}
	return perSecond * int(s.limits.Window.Seconds())
}

// cutKey splits the budget key of account-based mode; the scope is capitalised
// as in messages.
func cutKey(key string) (scope, tag string) {
	scope, tag, _ = strings.Cut(key, ":")
	if scope == "account" {
		return "Account", tag
	}
	return "Zone", tag
}

// Budgets is what each user (or "account:tag" and "zone:tag" in account-based
// mode) has spent of its GraphQL budget within the window that ends now.
func (s *Server) Budgets() map[string]int { return s.queries.all(s.config.Clock.Now()) }

// compress replaces the body by its gzip form where the client takes it.
func compress(r *http.Request, out *reply) {
	if len(out.body) < 200 || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		return
	}
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	if _, err := zw.Write(out.body); err != nil {
		panic(err) // a bytes.Buffer does not fail
	}
	if err := zw.Close(); err != nil {
		panic(err)
	}
	out.body = buf.Bytes()
	out.header.Set("Content-Encoding", "gzip")
	out.header.Set("Vary", "Accept-Encoding")
}

// send writes the answer, with the fault's treatment of the connection.
func send(w http.ResponseWriter, r *http.Request, out reply, fault *Fault) {
	compress(r, &out)
	for k, v := range out.header {
		w.Header()[k] = v
	}
	kind, delay := FaultKind(""), time.Duration(0)
	if fault != nil {
		kind, delay = fault.Kind, fault.Delay
	}
	if kind == FaultReset || kind == FaultSlow && !pause(r, delay) {
		panic(http.ErrAbortHandler)
	}
	if kind != FaultResetBody {
		w.Header().Set("Content-Length", strconv.Itoa(len(out.body)))
	}
	w.WriteHeader(out.status)
	switch kind {
	case FaultResetBody, FaultShortBody:
		write(w, out.body[:len(out.body)/2])
		panic(http.ErrAbortHandler)
	case FaultDrip:
		const pieces = 10
		for i := range pieces {
			write(w, out.body[len(out.body)*i/pieces:len(out.body)*(i+1)/pieces])
			if !pause(r, delay/pieces) {
				panic(http.ErrAbortHandler)
			}
		}
	default:
		_, _ = w.Write(out.body) // a client that went away is no business of ours
	}
}

// write sends part of a body at once.
func write(w http.ResponseWriter, b []byte) {
	_, _ = w.Write(b)
	_ = http.NewResponseController(w).Flush() // a recorder in a test need not support it
}

// pause waits on this machine's clock unless the client goes away.
func pause(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
