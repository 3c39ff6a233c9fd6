package cfsim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/schema"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// Totals are the numbers of the roll-ups for one zone and window: requests by
// end users, the visitors' uniques, and the maps.
type Totals struct {
	Requests          uint64            `json:"requests"`
	Bytes             uint64            `json:"bytes"`
	CachedRequests    uint64            `json:"cachedRequests"`
	CachedBytes       uint64            `json:"cachedBytes"`
	EncryptedRequests uint64            `json:"encryptedRequests"`
	EncryptedBytes    uint64            `json:"encryptedBytes"`
	EdgeRequestBytes  uint64            `json:"edgeRequestBytes"`
	PageViews         uint64            `json:"pageViews"`
	Threats           uint64            `json:"threats"`
	Visits            uint64            `json:"visits"`  // not a roll-up's number: sum of visits in the adaptive dataset
	Uniques           uint64            `json:"uniques"` // different clients in the window; not additive
	Status            map[uint64]uint64 `json:"status"`  // requests by edge response status
	Countries         map[string]Share  `json:"countries"`
	ContentTypes      map[string]Share  `json:"contentTypes"`
	HTTPVersions      map[string]Share  `json:"httpVersions"`
	TLSVersions       map[string]Share  `json:"tlsVersions"`
	IPClasses         map[string]Share  `json:"ipClasses"`
	Browsers          map[string]uint64 `json:"browsers"` // page views by browser family
	ThreatTypes       map[string]uint64 `json:"threatTypes"`
}

// Share is one entry of a map.
type Share struct {
	Requests uint64 `json:"requests"`
	Bytes    uint64 `json:"bytes"`
	Threats  uint64 `json:"threats"`
}

// True is what happened in the zone in [start, end), both at whole minutes:
// the value that every roll-up shows in the end, at age infinity. It does not
// depend on the clock, on faults or on what was asked before.
func (s *Server) True(zoneID string, start, end time.Time) (Totals, error) {
	return s.totals(zoneID, "httpRequests1mGroups", start, end, nil)
}

// Shown is what a query of the roll-up dataset would answer at the instant
// now: [Server.True] seen through settling. Faults are not applied.
func (s *Server) Shown(zoneID, dataset string, start, end, now time.Time) (Totals, error) {
	return s.totals(zoneID, dataset, start, end, &now)
}

func (s *world) totals(zoneID, dataset string, start, end time.Time, now *time.Time) (Totals, error) {
	z, from, to, err := s.window(zoneID, start, end)
	if err != nil {
		return Totals{}, err
	}
	var slice *traffic.Slice
	if now == nil {
		slice = z.http.Between(from, to)
	} else {
		slice = s.config.Settling.shown(z.http, z.seed, dataset, from, to, *now)
	}
	r := row{uniques: slice.Clients.Count()}
	for i, a := range slice.Amounts {
		if t := &z.http.Templates()[i]; t.Eyeball && a.Requests > 0 {
			r.parts = append(r.parts, part{t, a})
		}
	}
	return r.totals(), nil
}

func (s *world) window(zoneID string, start, end time.Time) (z *zone, from, to int64, err error) {
	i := slices.IndexFunc(s.zones, func(z *zone) bool { return z.ID == zoneID })
	if i < 0 {
		return nil, 0, 0, fmt.Errorf("cfsim: zone %q is not configured", zoneID)
	}
	from, to, err = minutes(start, end)
	return s.zones[i], from, to, err
}

func minutes(start, end time.Time) (from, to int64, err error) {
	switch {
	case start.Unix()%60 != 0 || end.Unix()%60 != 0 || start.Nanosecond() != 0 || end.Nanosecond() != 0:
		return 0, 0, fmt.Errorf("cfsim: window [%s, %s) must begin and end at whole minutes", start, end)
	case end.Before(start):
		return 0, 0, fmt.Errorf("cfsim: window [%s, %s) ends before it begins", start, end)
	}
	return start.Unix() / 60, end.Unix() / 60, nil
}

func (r *row) totals() Totals {
	sum := func(name string) uint64 { return r.sumWhere(sumFields[name].where, sumFields[name].value) }
	t := Totals{
		Requests: sum("requests"), Bytes: sum("bytes"), CachedRequests: sum("cachedRequests"), CachedBytes: sum("cachedBytes"),
		EncryptedRequests: sum("encryptedRequests"), EncryptedBytes: sum("encryptedBytes"), EdgeRequestBytes: sum("edgeRequestBytes"),
		PageViews: sum("pageViews"), Threats: sum("threats"), Visits: sum("visits"), Uniques: r.uniques,
		Status: map[uint64]uint64{}, Browsers: map[string]uint64{}, ThreatTypes: map[string]uint64{},
	}
	shares := func(name string) map[string]Share {
		out := map[string]Share{}
		for _, m := range r.mapRows(mapFields[name].attribute, mapFields[name].where) {
			out[m.key.(string)] = Share{m.requests, m.bytes, m.threats}
		}
		return out
	}
	counts := func(out map[string]uint64, name string) {
		for k, v := range shares(name) {
			out[k] = v.Requests
		}
	}
	t.Countries, t.ContentTypes, t.HTTPVersions = shares("countryMap"), shares("contentTypeMap"), shares("clientHTTPVersionMap")
	t.TLSVersions, t.IPClasses = shares("clientSSLMap"), shares("ipClassMap")
	counts(t.Browsers, "browserMap")
	counts(t.ThreatTypes, "threatPathingMap")
	for _, m := range r.mapRows("edgeResponseStatus", nil) {
		t.Status[m.key.(uint64)] = m.requests
	}
	return t
}

// Group is one group of an adaptive dataset.
type Group struct {
	// Key are the values of the dimensions asked for, in that order: strings
	// or uint64.
	Key      []any  `json:"key"`
	Count    uint64 `json:"count"`
	Bytes    uint64 `json:"edgeResponseBytes"`
	Visits   uint64 `json:"visits"`
	OriginMs uint64 `json:"originResponseDurationMs"` // sum
}

// TrueGroups is [Server.Truth] for the usual sums of httpRequestsAdaptiveGroups, or for
// the count of another adaptive dataset of zones, in [start, end) by dimensions.
func (s *Server) TrueGroups(zoneID, dataset string, start, end time.Time, filter map[string]any, dimensions ...string) ([]Group, error) {
	if isRollup(dataset) {
		return nil, fmt.Errorf("cfsim: dataset %q is no adaptive dataset", dataset)
	}
	_, rows, err := s.trueRows(Question{
		Scope: schema.Zone, Tag: zoneID, Dataset: dataset, Start: start, End: end, Filter: filter, Dimensions: dimensions,
	})
	if err != nil {
		return nil, err
	}
	var out []Group
	for _, r := range rows {
		t := r.total()
		out = append(out, Group{Key: r.key, Count: t.Requests, Bytes: t.Bytes, Visits: t.Visits, OriginMs: t.OriginMs})
	}
	return out, nil
}

// Invocations are what one script of an account did, by how it ended.
type Invocations struct {
	Script      string `json:"scriptName"`
	Status      string `json:"status"`
	Requests    uint64 `json:"requests"`
	Errors      uint64 `json:"errors"`
	Subrequests uint64 `json:"subrequests"`
}

// TrueWorkers is what workersInvocationsAdaptive shows of an account in the end,
// unsampled, for [start, end), both at whole minutes, by script and status. What did
// not happen is absent.
func (s *Server) TrueWorkers(accountID string, start, end time.Time) ([]Invocations, error) {
	return s.invocations(accountID, start, end, nil)
}

// ShownWorkers is what a query would answer at the instant now: [Server.TrueWorkers] seen
// through settling. Faults and sampling are not applied.
func (s *Server) ShownWorkers(accountID string, start, end, now time.Time) ([]Invocations, error) {
	return s.invocations(accountID, start, end, &now)
}

func (s *world) invocations(accountID string, start, end time.Time, now *time.Time) ([]Invocations, error) {
	w := s.places[accountID]
	if w == nil {
		return nil, fmt.Errorf("cfsim: account %q is not configured", accountID)
	}
	from, to, err := minutes(start, end)
	if err != nil {
		return nil, err
	}
	slice := w.scripts.Between(from, to)
	if now != nil {
		slice = s.config.Settling.shown(w.scripts, w.seed, "workersInvocationsAdaptive", from, to, *now)
	}
	rows := map[[2]string]*row{}
	for i, a := range slice.Amounts {
		t := &w.scripts.Templates()[i]
		if a.Requests == 0 {
			continue
		}
		key := [2]string{t.String("scriptName"), t.String("status")}
		if rows[key] == nil {
			rows[key] = &row{}
		}
		rows[key].parts = append(rows[key].parts, part{t, a})
	}
	var out []Invocations
	for key, r := range rows {
		out = append(out, Invocations{
			Script: key[0], Status: key[1], Requests: r.total().Requests,
			Errors: r.sumWhere(failed, requests), Subrequests: r.sumWhere(nil, subrequests),
		})
	}
	slices.SortFunc(out, func(a, b Invocations) int {
		return cmp.Or(cmp.Compare(a.Script, b.Script), cmp.Compare(a.Status, b.Status))
	})
	return out, nil
}

// numbers turns Go integers into the form that parsed requests have.
func numbers(v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range x {
			out[k] = numbers(e)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = numbers(e)
		}
		return out
	case []string:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = e
		}
		return out
	case int, int64, uint64, float64:
		return json.Number(fmt.Sprint(x))
	}
	return v
}
