package cfsim

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/weir-metrics/weir/internal/cfsim/query"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// zones plans a block of zones; account is set when it stands inside one.
func (d *document) zones(f query.Field, account string, path []string) ([]any, *gqlError) {
	tags, list, err := d.zoneTags(f, account)
	if err != nil {
		return nil, err.at(path)
	}
	if account == "" {
		if d.accountly && list {
			return nil, badRequest("several zones need to be nested in accounts with account-based rate limits").at(path)
		}
		for _, tag := range tags {
			d.charges = append(d.charges, "zone:"+tag)
		}
	}
	for _, tag := range tags {
		d.log.addZone(tag) // before any refusal: tests look for too many in one request
	}
	if len(tags) > d.s.limits.ZonesPerQuery {
		return nil, errTooManyZones.at(path)
	}
	out := []any{}
	alive := d.s.alive(d.now)
	for i, tag := range tags {
		at := append(slices.Clip(path), strconv.Itoa(i))
		for _, sub := range f.Fields {
			if sub.Name != "zoneTag" && sub.Name != "settings" && sub.Name != "__typename" {
				d.scopes++
			}
		}
		k := slices.IndexFunc(alive, func(z *zoneState) bool { return z.ID == tag })
		if k < 0 || !d.token.seesZone(alive[k]) || account != "" && alive[k].account != account {
			if d.s.config.Switches.InvisibleZoneError {
				return nil, noPermission(d.token.ID, ZoneAnalytics, tag).at(at)
			}
			continue
		}
		z := alive[k]
		if !d.token.may(ZoneAnalytics) || slices.Contains(d.token.Denied, tag) {
			return nil, noPermission(d.token.ID, ZoneAnalytics, tag).at(at)
		}
		at[len(at)-1] = strconv.Itoa(len(out))
		one, err := d.zone(f, z, at)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

func (d *document) zone(f query.Field, z *zoneState, path []string) (object, *gqlError) {
	out := object{}
	for _, sub := range f.Fields {
		var v any
		var err *gqlError
		switch sub.Name {
		case "zoneTag":
			v = z.ID
		case "__typename":
			v = "zone"
		case "settings":
			v, err = d.settings(sub, schema.Zone, z.plan)
		default:
			v, err = d.dataset(sub, schema.Zone, z.ID, z.plan, []*zoneState{z}, append(slices.Clip(path), sub.Alias))
		}
		if err != nil {
			return nil, err
		}
		out.set(sub.Alias, v)
	}
	return out, nil
}

// zoneTags reads the filter of a zones block. list says that it is not
// exactly one zone by tag.
func (d *document) zoneTags(f query.Field, account string) (tags []string, list bool, err *gqlError) {
	if len(f.Fields) == 0 {
		return nil, false, badRequest("object field must have selections")
	}
	filter, ok := f.Args["filter"].(map[string]any)
	if v, set := f.Args["filter"]; set && v != nil && !ok || len(filter) > 1 {
		return nil, false, badRequest("error parsing args for %q: filter must be one of zoneTag, zoneTag_in, zoneTag_gt", "zones")
	}
	after := ""
	for name, v := range filter {
		one, isText := v.(string)
		many, isList := v.([]any)
		switch {
		case name == "zoneTag" && isText:
			return []string{one}, false, nil
		case name == "zoneTag_in" && (isList || isText):
			if isText {
				many = []any{one}
			}
			for _, each := range many {
				tag, ok := each.(string)
				if !ok {
					return nil, false, badRequest("error parsing args for %q: filter: zoneTag_in: string expected, got %v", "zones", each)
				}
				if !slices.Contains(tags, tag) {
					tags = append(tags, tag)
				}
			}
			if len(tags) == 0 {
				return nil, false, badRequest("empty zone filters not allowed")
			}
			slices.Sort(tags)
			return tags, true, nil
		case name == "zoneTag_gt" && isText:
			after = one
		default:
			return nil, false, badRequest("error parsing args for %q: filter: unknown arg %s or value %v", "zones", name, v)
		}
	}
	limit := -1
	if n, ok := f.Args["limit"].(json.Number); ok {
		if limit, _ = strconv.Atoi(n.String()); limit <= 0 {
			return nil, false, badRequest("limit must be positive number and not greater than %d", d.s.limits.ZonesPerQuery)
		}
	}
	for _, z := range d.s.alive(d.now) {
		if z.ID > after && d.token.seesZone(z) && (account == "" || z.account == account) && len(tags) != limit {
			tags = append(tags, z.ID)
		}
	}
	return tags, true, nil
}
