package cfsim

import (
	"slices"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// zone is a configured zone with its traffic.
type zone struct {
	Zone
	seed   uint64
	http   *traffic.Model
	events *traffic.Model
	// scripts are the Workers of an account, for which the zone stands then: it has
	// the account's id and nothing of a zone.
	scripts *traffic.Model

	world uint64 // the configuration's seed
	quiet func(minute int64) bool
	mu    sync.Mutex
	own   map[string]*traffic.Model // by source of the table, made when they are asked for
}

// zoneState is a zone as it is at one instant.
type zoneState struct {
	*zone
	name    string
	account string
	plan    Plan
	paused  bool
	away    bool // status is "moved", not "active"
	pending bool // status is "pending"
}

func newZone(seed uint64, z Zone) *zone {
	z.Events = slices.Clone(z.Events)
	slices.SortStableFunc(z.Events, func(a, b ZoneEvent) int { return a.At.Compare(b.At) })
	out := &zone{Zone: z, seed: traffic.Hash(seed, traffic.HashString(z.ID)), world: seed}
	out.quiet = out.silent
	out.http = traffic.New(seed, z.ID, z.Name, z.Traffic, out.silent)
	out.events = traffic.NewEvents(seed, z.ID, z.Name, z.Traffic, out.silent)
	return out
}

// newPlace is what stands for an account in its own datasets.
func newPlace(seed uint64, a *Account) *zone {
	out := &zone{
		Zone: Zone{ID: a.ID, Name: a.Name, Account: a.ID, Products: a.Products},
		seed: traffic.Hash(seed, traffic.HashString(a.ID)), world: seed,
	}
	listed, deleted := a.Listed, a.Deleted
	out.quiet = func(minute int64) bool {
		start := time.Unix(60*minute, 0)
		return start.Before(listed) || !deleted.IsZero() && !start.Before(deleted)
	}
	out.scripts = traffic.NewWorkers(seed, a.ID, a.Workers, out.quiet)
	return out
}

// product finds a product that the zone or account has.
func (z *zone) product(name string) (traffic.Product, bool) {
	for _, p := range z.Products {
		if p.Name == name {
			return p, true
		}
	}
	return traffic.Product{}, false
}

// model is what happened that a dataset is about, nil when nothing of it ever does.
func (z *zone) model(dataset string) *traffic.Model {
	source := traffic.SourceOf(dataset)
	switch {
	case source == nil:
		return nil
	case source.Name == traffic.HTTP:
		return z.http
	case source.Name == traffic.Firewall:
		return z.events
	case source.Name == traffic.Workers:
		return z.scripts
	}
	p, ok := z.product(source.Product)
	if !ok {
		return nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.own[source.Name] == nil {
		if z.own == nil {
			z.own = map[string]*traffic.Model{}
		}
		z.own[source.Name] = traffic.NewSource(z.world, z.ID, z.Name, source, p, z.quiet)
	}
	return z.own[source.Name]
}

// silent says whether a minute lies before the zone's activation, in a pause or
// after its deletion.
func (z *zone) silent(minute int64) bool {
	start := time.Unix(60*minute, 0)
	if start.Before(z.Created) || start.Before(z.Activated) {
		return true
	}
	silent := false
	for _, e := range z.Events {
		if e.At.After(start) {
			break
		}
		switch {
		case e.Delete:
			return true
		case e.Pause, e.Leave:
			silent = true
		case e.Resume:
			silent = false
		}
	}
	return silent
}

// status is the word that REST has for it.
func (z *zoneState) status() string {
	switch {
	case z.away:
		return "moved"
	case z.pending:
		return "pending"
	}
	return "active"
}

// at is the zone's state; nil before its creation and after its deletion.
func (z *zone) at(now time.Time) *zoneState {
	if now.Before(z.Created) {
		return nil
	}
	s := &zoneState{zone: z, name: z.Name, account: z.Account, plan: z.Plan, pending: now.Before(z.Activated)}
	for _, e := range z.Events {
		switch {
		case e.At.After(now):
			return s
		case e.Delete:
			return nil
		case e.Pause:
			s.paused = true
		case e.Leave:
			s.away = true
		case e.Resume:
			s.paused, s.away = false, false
		case e.Rename != "":
			s.name = e.Rename
		case e.Plan != "":
			s.plan = e.Plan
		case e.Account != "":
			s.account = e.Account
		}
	}
	return s
}

// alive are the zones that exist at now, by tag.
func (s *world) alive(now time.Time) []*zoneState {
	var out []*zoneState
	for _, z := range s.zones {
		if st := z.at(now); st != nil {
			out = append(out, st)
		}
	}
	return out
}

// accountPlan is the configured plan of an account, else the highest of its
// zones.
func (s *world) accountPlan(id string, now time.Time) Plan {
	highest := 0
	for _, a := range s.config.Accounts {
		if a.ID == id && a.Plan != "" {
			return a.Plan
		}
	}
	for _, z := range s.alive(now) {
		if z.account == id {
			highest = max(highest, slices.Index(planOrder, z.plan))
		}
	}
	return planOrder[highest]
}
