package cfsim

import (
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/query"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// document is one request on its way to an answer. First everything is
// planned and checked, then everything is computed: one refused part voids
// the whole.
type document struct {
	s         *Server
	token     *token
	now       time.Time
	accountly bool // account-based rate limiting was asked for
	log       *Request
	pending   []*pending
	charges   []string // budget keys, one for each scope block
	scopes    int      // scopes times datasets, those whose settings are asked included
	errors    []*gqlError
	left      int // budget after this request
}

// pending is the answer of one dataset for one zone or account.
type pending struct {
	sel     *selection
	zones   []*zoneState
	tag     string
	path    []string
	refused *gqlError // with partial data only
}

// object is a JSON object with an order. Values are object, []any, *pending
// or anything for encoding/json.
type object []member

type member struct {
	key   string
	value any
}

func (o *object) set(key string, v any) {
	for _, m := range *o {
		if m.key == key {
			return
		}
	}
	*o = append(*o, member{key, v})
}

// plan walks the selected fields and checks all that can be known before data
// is read.
func (d *document) plan(fields []query.Field) (object, *gqlError) {
	var out object
	for _, f := range fields {
		switch f.Name {
		case "viewer":
			v, err := d.viewer(f)
			if err != nil {
				return nil, err
			}
			out.set(f.Alias, v)
		case "cost":
			out.set(f.Alias, 1)
		case "__typename":
			out.set(f.Alias, "query")
		case "__schema", "__type":
			v, err := introspect(f)
			if err != nil {
				return nil, err
			}
			out.set(f.Alias, v)
		default:
			return nil, unknownField(f.Name)
		}
	}
	if d.scopes > d.s.limits.ScopesNodes {
		return nil, errTooManyNodes
	}
	return out, nil
}

func (d *document) viewer(f query.Field) (object, *gqlError) {
	if len(f.Fields) == 0 {
		return nil, badRequest("object field must have selections")
	}
	var out object
	for _, sub := range f.Fields {
		path := []string{"viewer", sub.Alias}
		var v any
		var err *gqlError
		switch sub.Name {
		case "budget":
			v = &d.left // known once the request is charged
		case "zones":
			v, err = d.zones(sub, "", path)
		case "accounts":
			v, err = d.accounts(sub, path)
		case "__typename":
			v = "viewer"
		default:
			err = unknownField(sub.Name)
		}
		if err != nil {
			return nil, err
		}
		out.set(sub.Alias, v)
	}
	return out, nil
}

func (d *document) accounts(f query.Field, path []string) ([]any, *gqlError) {
	filter, _ := f.Args["filter"].(map[string]any)
	tag, ok := filter["accountTag"].(string)
	if !ok || len(filter) != 1 {
		return nil, badRequest("error parsing args for %q: filter: accountTag is required", "accounts")
	}
	d.charges = append(d.charges, "account:"+tag)
	exists := slices.ContainsFunc(d.s.config.Accounts, func(a Account) bool { return a.ID == tag && a.there(d.now) })
	if !exists || !d.token.seesAccount(tag) || !d.token.may(AccountAnalytics) && !onlyZones(f) {
		return nil, errAccount.at(path)
	}
	var zones []*zoneState
	for _, z := range d.s.alive(d.now) {
		if z.account == tag {
			zones = append(zones, z)
		}
	}
	plan := d.s.accountPlan(tag, d.now)
	path = append(slices.Clip(path), "0")
	var out object
	for _, sub := range f.Fields {
		var v any
		var err *gqlError
		switch sub.Name {
		case "accountTag":
			v = tag
		case "__typename":
			v = "account"
		case "settings":
			v, err = d.settings(sub, schema.Account, plan)
		case "zones":
			v, err = d.zones(sub, tag, append(slices.Clip(path), sub.Alias))
		default:
			of := zones
			if source := traffic.SourceOf(sub.Name); source != nil && !source.Union {
				of = []*zoneState{{zone: d.s.places[tag]}}
			}
			v, err = d.dataset(sub, schema.Account, tag, plan, of, append(slices.Clip(path), sub.Alias))
			d.scopes++
		}
		if err != nil {
			return nil, err
		}
		out.set(sub.Alias, v)
	}
	return []any{out}, nil
}

// onlyZones reports that an account block merely wraps zones: those need the
// zones' permission, not the account's.
func onlyZones(f query.Field) bool {
	return !slices.ContainsFunc(f.Fields, func(x query.Field) bool {
		return x.Name != "zones" && x.Name != "accountTag" && x.Name != "__typename"
	})
}

func (d *document) dataset(f query.Field, scope schema.Scope, tag string, plan Plan, zones []*zoneState, path []string) (any, *gqlError) {
	sel, err := d.s.newSelection(scope, f)
	if err != nil {
		return nil, err.at(path)
	}
	p := &pending{sel: sel, zones: zones, tag: tag, path: path}
	d.log.addQuery(p)
	if err := d.s.check(sel, tag, plan, d.now); err != nil {
		if !d.s.config.Switches.PartialData {
			return nil, err.at(path)
		}
		p.refused = err.at(path)
	}
	d.pending = append(d.pending, p)
	return p, nil
}

// settings plans a settings block.
func (d *document) settings(f query.Field, scope schema.Scope, plan Plan) (any, *gqlError) {
	if len(f.Fields) == 0 {
		return nil, badRequest("object field must have selections")
	}
	out := object{}
	for _, sub := range f.Fields {
		if sub.Name == "__typename" {
			out.set(sub.Alias, "settings")
			continue
		}
		if !d.s.config.Switches.FreeSettings {
			d.scopes++
		}
		ds := schema.Lookup(scope, sub.Name)
		if ds == nil {
			return nil, unknownField(sub.Name)
		}
		if len(sub.Fields) == 0 {
			return nil, badRequest("object field must have selections")
		}
		values, one := d.s.settings(scope, ds, plan), object{}
		for _, leaf := range sub.Fields {
			v, ok := values[leaf.Name]
			if !ok {
				return nil, unknownField(leaf.Name)
			}
			one.set(leaf.Alias, v)
		}
		out.set(sub.Alias, one)
	}
	return out, nil
}
