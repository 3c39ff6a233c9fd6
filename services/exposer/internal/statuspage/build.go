package statuspage

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// ErrNoPage means that the query names a dataset that does not exist.
var ErrNoPage = errors.New("no such page")

// Selection is the scopes of one page, in order, and the range of its heat map.
type Selection struct {
	Range   Range
	Scopes  []*bucketv1.ScopeInfo
	Matches int
	// Page is the number of the page, the last one if the query names a later one, of Pages.
	Page  int
	Pages int
	// ByState is the number of scopes that match the query but for show, by state; nil: that
	// is not known.
	ByState map[string]int
	// Others is the number of the scopes that match the query but for show and are not on the
	// page, and Troubled is how many of them need attention as far as that is known.
	Others   int
	Troubled int
}

// Select returns the scopes that a query shows. It is what coverage must be asked for. Without
// a survey nothing is chosen by state. The error wraps [ErrNoPage] and names the parameter.
func Select(now time.Time, q Query, e Exposer, a Answer, found *Found) (Selection, error) {
	s := Selection{Range: RangeOf(now, q, e, a), Page: 1, Pages: 1}
	if a.Scopes != nil && q.Dataset != "" && !slices.ContainsFunc(a.Datasets, func(d *bucketv1.DatasetVersion) bool { return d.GetDataset() == q.Dataset }) {
		return s, fmt.Errorf("%w: parameter dataset is %s; it must be one of %s", ErrNoPage, clip(q.Dataset), strings.Join(ids(a.Datasets), ", "))
	}
	if q.ID != "" || q.Zone != "" {
		if one := find(q, a.Scopes); one != nil {
			s.Scopes, s.Matches = []*bucketv1.ScopeInfo{one}, 1
		}
		return s, nil
	}
	if a.Scopes == nil { // not known: nothing can be said about the query
		s.Page, s.Pages = q.Page, q.Page
		return s, nil
	}
	all := q.among(a.Scopes, found)
	if found != nil {
		s.ByState = countScopes(all)
	}
	chosen := q.choose(all, found != nil)
	s.Matches = len(chosen)
	s.Pages = max(1, (len(chosen)+PageSize-1)/PageSize)
	s.Page = min(q.Page, s.Pages)
	first := (s.Page - 1) * PageSize
	here := chosen[first:min(len(chosen), first+PageSize)]
	s.Others, s.Troubled = len(all)-len(here), troubled(all)-troubled(here)
	for _, sc := range here {
		s.Scopes = append(s.Scopes, sc.ScopeInfo)
	}
	return s, nil
}

// among returns the scopes that match the query but for show, by account and name.
func (q *Query) among(scopes []*bucketv1.ScopeInfo, found *Found) (all []judged) {
	for _, sc := range scopes {
		if sc == nil || !q.matches(sc) {
			continue
		}
		one := judged{ScopeInfo: sc}
		if found != nil {
			one.states, one.absent = found.in(sc, q.Dataset)
		}
		all = append(all, one)
	}
	slices.SortStableFunc(all, func(x, y judged) int {
		return cmp.Or(cmp.Compare(x.GetAccountName(), y.GetAccountName()), cmp.Compare(x.GetAccountId(), y.GetAccountId()),
			cmp.Compare(x.GetScope().GetKind(), y.GetScope().GetKind()), cmp.Compare(x.GetName(), y.GetName()), cmp.Compare(x.GetScope().GetId(), y.GetScope().GetId()))
	})
	return all
}

// choose returns those that the query shows. Those that are chosen by state come in the order
// of urgency.
func (q *Query) choose(all []judged, surveyed bool) (chosen []judged) {
	byState := q.ByState()
	for _, sc := range all {
		switch {
		case byState && (!surveyed || !sc.states.has(q.states())):
		case !byState && q.Show != everything && (q.Show == "collected") != collected(sc.ScopeInfo):
		default:
			chosen = append(chosen, sc)
		}
	}
	if byState {
		slices.SortStableFunc(chosen, worstFirst)
	}
	return chosen
}

func troubled(list []judged) (n int) {
	for i := range list {
		if list[i].states.has(attention) {
			n++
		}
	}
	return n
}

func ids(datasets []*bucketv1.DatasetVersion) (out []string) {
	for _, d := range datasets {
		out = append(out, d.GetDataset())
	}
	return out
}

// find returns the scope that a query names; of several with one name that which is active.
func find(q Query, scopes []*bucketv1.ScopeInfo) (found *bucketv1.ScopeInfo) {
	for _, sc := range scopes {
		if q.ID != "" && sc.GetScope().GetId() != q.ID || q.Zone != "" && sc.GetZoneLabel() != q.Zone && sc.GetName() != q.Zone {
			continue
		}
		if found == nil || sc.GetState() == bucketv1.ScopeState_SCOPE_STATE_ACTIVE {
			found = sc
		}
	}
	return found
}

// matches reports whether a scope matches the query but for show.
func (q *Query) matches(sc *bucketv1.ScopeInfo) bool {
	if q.Account != "" && accountID(sc) != q.Account {
		return false
	}
	if q.Text == "" {
		return true
	}
	text := strings.ToLower(q.Text)
	for _, in := range []string{sc.GetName(), sc.GetZoneLabel(), sc.GetAccountName(), sc.GetAccountLabel(), sc.GetScope().GetId()} {
		if strings.Contains(strings.ToLower(in), text) {
			return true
		}
	}
	return false
}

// accountID is the account of a zone, or an account itself.
func accountID(sc *bucketv1.ScopeInfo) string {
	if sc.GetScope().GetKind() == bucketv1.ScopeKind_SCOPE_KIND_ACCOUNT {
		return sc.GetScope().GetId()
	}
	return sc.GetAccountId()
}

// collected reports whether at least one dataset of an active scope is allowed.
func collected(sc *bucketv1.ScopeInfo) bool {
	return sc.GetState() == bucketv1.ScopeState_SCOPE_STATE_ACTIVE &&
		slices.ContainsFunc(sc.GetEntitlements(), func(e *bucketv1.Entitlement) bool { return e.GetVariant() != "" })
}

// usualRetention is that of SQLite, while the store's is not known.
const usualRetention = 90 * 24 * time.Hour

// RangeOf returns the range of the heat map of a query.
func RangeOf(now time.Time, q Query, e Exposer, a Answer) Range {
	if q.Range == "retention" {
		if kept := a.Status.GetInfo().GetRetention(); kept.IsValid() && kept.AsDuration() > 0 {
			return NewRange(q.Range, kept.AsDuration(), now)
		}
		return NewRange(q.Range, usualRetention, now)
	}
	return NewRange("replay", time.Duration(max(1, e.Hours))*time.Hour, now)
}

// Build returns the model of a page.
func Build(in Input, s Selection) *Page {
	b := &builder{in: in, s: s, definitions: map[string]*bucketv1.DatasetVersion{}, covered: map[series]*bucketv1.Coverage{}}
	for _, d := range in.Answer.Datasets {
		b.definitions[d.GetDataset()] = d
	}
	for _, c := range in.Coverage.Response.GetCoverages() {
		b.covered[series{c.GetDataset(), c.GetScope().GetId()}] = c
	}
	p := &Page{
		Format: Format, At: in.Now.UTC(), Exposer: in.Exposer, Collector: b.collector(), Problems: problems(in.Answer.Status.GetProblems()),
		Range: s.Range, Coverage: freshness(in.Now, in.Coverage.At, in.Coverage.Err), Matches: s.Matches, Page: s.Page, Pages: s.Pages, Query: in.Query,
		Survey: freshness(in.Now, in.Survey.At, in.Survey.Err), ByState: s.ByState,
	}
	if in.Query.Page > s.Page {
		p.PageAsked = in.Query.Page
	}
	p.Datasets = b.datasets()
	p.Counts, p.Accounts = accounts(in.Answer.Scopes)
	p.Scopes = []Scope{} // in JSON a list, also when it is empty
	for _, sc := range s.Scopes {
		p.Scopes = append(p.Scopes, b.scope(sc, p.Problems))
	}
	p.Attention = p.attention(s)
	return p
}

type series struct{ dataset, scope string }

type builder struct {
	in          Input
	s           Selection
	definitions map[string]*bucketv1.DatasetVersion
	covered     map[series]*bucketv1.Coverage
}

func freshness(now, at time.Time, err error) Freshness {
	f := Freshness{Known: !at.IsZero()}
	if f.Known {
		utc := at.UTC()
		f.At, f.AgeSeconds = &utc, int64(max(0, now.Sub(at))/time.Second)
	}
	if err != nil {
		f.Error = err.Error()
	}
	return f
}

func (b *builder) collector() Collector {
	m := b.in.Answer.Status
	c := Collector{
		Freshness: freshness(b.in.Now, b.in.Answer.At, b.in.Answer.Err),
		Version:   m.GetVersion(), Leader: m.GetLeader(), Store: m.GetInfo().GetStoreId(), Revision: m.GetHead().GetRevision(),
		Progress: instant(m.GetProgressTime()), RetentionSeconds: m.GetInfo().GetRetention().GetSeconds(),
	}
	switch m.GetRole() {
	case bucketv1.Role_ROLE_LEADER:
		c.Role = "leader"
	case bucketv1.Role_ROLE_STANDBY:
		c.Role = "standby"
	default:
		if m != nil {
			c.Role = string(Unknown)
		}
	}
	return c
}

func problems(list []*bucketv1.Problem) []Problem {
	out := make([]Problem, 0, len(list))
	for _, p := range list {
		out = append(out, Problem{
			Code: p.GetCode(), About: p.GetAbout(), Message: p.GetMessage(), Since: instant(p.GetSince()), Anchor: runbook(p.GetCode()),
		})
	}
	return out
}

// runbook is the anchor of the alert that bears the name of a code.
func runbook(code string) string {
	if code == "DATASET_DISABLED" {
		return "weirdatasetoff"
	}
	name := strings.ToLower(strings.ReplaceAll(code, "_", ""))
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
		return "problems"
	}
	return "weir" + name
}

func kindOf(k bucketv1.ScopeKind) string {
	switch k {
	case bucketv1.ScopeKind_SCOPE_KIND_ZONE:
		return "zone"
	case bucketv1.ScopeKind_SCOPE_KIND_ACCOUNT:
		return "account"
	}
	return string(Unknown)
}

// size returns the bucket size of a dataset; 0: it is not known, or cannot be right.
func size(d *bucketv1.DatasetVersion) time.Duration {
	s := time.Duration(d.GetSizeSeconds()) * time.Second
	if bucket.ValidSize(s) != nil {
		return 0
	}
	return s
}

func delay(d *bucketv1.DatasetVersion) time.Duration {
	return min(max(0, d.GetDelay().AsDuration()), 7*24*time.Hour)
}

// datasets joins the definitions with the collector's figures and the exposer's.
func (b *builder) datasets() []Dataset {
	figures := map[string]*bucketv1.DatasetStatus{}
	for _, s := range b.in.Answer.Status.GetDatasets() {
		figures[s.GetDataset()] = s
	}
	all := map[string]bool{}
	for id := range b.definitions {
		// A definition without figures is of a dataset that is no longer collected.
		all[id] = figures[id] != nil || b.in.Answer.Status == nil
	}
	for id := range figures {
		all[id] = true
	}
	out := []Dataset{}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if !all[id] {
			continue
		}
		def := b.definitions[id]
		d := Dataset{
			ID: id, Description: def.GetDescription(), Kind: kindOf(def.GetScopeKind()),
			BucketSeconds: int64(size(def) / time.Second), DelaySeconds: int64(delay(def) / time.Second),
		}
		if size(def) > 0 {
			d.ExpectedSeconds = int64((size(def) + delay(def) + reading) / time.Second)
		}
		d.judge(figures[id], b.in.Now, b.in.Answer.At)
		if r, held := b.in.Exposer.Datasets[id]; held {
			d.Replay = &r
		}
		out = append(out, d)
	}
	return out
}

func (d *Dataset) judge(s *bucketv1.DatasetStatus, now, at time.Time) {
	d.State = string(Unknown)
	if s == nil {
		return
	}
	d.Active, d.Refused = s.GetScopesActive(), s.GetScopesRefused()
	d.Missing, d.Waiting, d.Unreadable = s.GetWindowsMissing(), s.GetWindowsWaiting(), s.GetWindowsUnreadable()
	d.CompleteUntil, d.Newest = unix(s.GetCompleteUntilUnixSeconds()), unix(s.GetNewestEndUnixSeconds())
	if d.Active == 0 {
		d.State = "idle"
		return
	}
	if d.CompleteUntil == nil || d.ExpectedSeconds == 0 {
		return
	}
	age := int64(now.Sub(*d.CompleteUntil) / time.Second)
	d.AgeSeconds = &age
	// The age at the time of the answer: while the collector is away the rest is not known.
	switch then := int64(at.Sub(*d.CompleteUntil) / time.Second); {
	case then < -d.BucketSeconds || now.Sub(at) > time.Duration(d.ExpectedSeconds)*time.Second:
	case then > d.ExpectedSeconds:
		d.State = "late"
	default:
		d.State = "fresh"
	}
}

// latest is the largest time that is shown: the last second of the year 9999.
const latest = 253402300799

// unix is nil for an absent time, and one that is no calendar time.
func unix(seconds int64) *time.Time {
	if seconds <= 0 || seconds > latest {
		return nil
	}
	t := time.Unix(seconds, 0).UTC()
	return &t
}

func accounts(scopes []*bucketv1.ScopeInfo) (counts map[string]int, list []Account) {
	counts = map[string]int{}
	names := map[string]string{}
	for _, sc := range scopes {
		name, _ := scopeState(sc.GetState())
		counts[name]++
		if id := accountID(sc); id != "" {
			names[id] = cmp.Or(names[id], sc.GetAccountName())
		}
	}
	for id, name := range names {
		list = append(list, Account{ID: id, Name: cmp.Or(name, id)})
	}
	slices.SortFunc(list, func(a, b Account) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return counts, list
}
