package cfsim

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// maxPerPage is the most zones or accounts on one page.
const maxPerPage = 50

// call is one REST call.
type call struct {
	*Server
	r     *http.Request
	token *token
	now   time.Time
	entry *Request
}

var (
	errNoMethod = &restError{status: http.StatusMethodNotAllowed, code: 10405, message: "Method not allowed for this authentication scheme"}
	errNotFound = &restError{status: http.StatusNotFound, code: 10003, message: "could not find entrypoint ruleset or resource"}
	errDenied   = &restError{status: http.StatusForbidden, code: 10000, message: "Authentication error"}
)

// rest answers the REST calls that exporters make.
func (s *Server) rest(r *http.Request, path string, t *token, now time.Time, entry *Request) reply {
	c := &call{Server: s, r: r, token: t, now: now, entry: entry}
	if r.Method != http.MethodGet {
		return c.refuse(errNoMethod)
	}
	part := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "/user/tokens/verify":
		return c.verify()
	case path == "/accounts":
		return c.listAccounts()
	case path == "/zones":
		return c.listZones()
	case part[0] == "zones" && len(part) >= 2:
		return c.belowZone(part[1], strings.Join(part[2:], "/"))
	case part[0] == "accounts" && len(part) >= 2:
		return c.belowAccount(part[1], strings.Join(part[2:], "/"))
	}
	return c.refuse(errNoRoute)
}

func (c *call) refuse(e *restError) reply { return restRefuse(e, c.entry) }

// belowZone answers /zones/{id} and what is below it.
func (c *call) belowZone(id, below string) reply {
	c.entry.addZone(id)
	var z *zoneState
	for _, each := range c.alive(c.now) {
		if each.ID == id && c.token.seesZone(each) {
			z = each
		}
	}
	switch {
	case !tagPattern.MatchString(id):
		return c.refuse(errNoRoute)
	case z == nil || !c.token.may(ZoneRead):
		return c.refuse(errNotAllowed)
	}
	switch below {
	case "":
		return result(c.zoneObject(z), nil)
	case "rulesets":
		list := c.rulesets(z)
		for _, rs := range list {
			delete(rs, "rules")
		}
		return c.list(RulesetsRead, list, 100)
	case "firewall/rules":
		return page(c.r, []any{}, 100)
	case "load_balancers":
		return c.list(LoadBalancersRead, z.balancers(), 100)
	case "ssl/certificate_packs":
		return c.list(CertificatesRead, z.certificatePacks(c.now), maxPerPage)
	case "custom_hostnames":
		return c.list(CertificatesRead, z.customHostnames(), maxPerPage)
	}
	if !c.token.may(RulesetsRead) && strings.HasPrefix(below, "rulesets/") {
		return c.refuse(errDenied)
	}
	for _, rs := range c.rulesets(z) {
		if below == "rulesets/"+rs["id"].(string) || below == "rulesets/phases/"+rs["phase"].(string)+"/entrypoint" {
			return result(rs, nil)
		}
	}
	return c.refuse(errNotFound)
}

// belowAccount answers /accounts/{id} and what is below it.
func (c *call) belowAccount(id, below string) reply {
	i := slices.IndexFunc(c.config.Accounts, func(a Account) bool { return a.ID == id && a.there(c.now) })
	switch {
	case !tagPattern.MatchString(id):
		return c.refuse(errNoRoute)
	case i < 0 || !c.token.seesAccount(id):
		return c.refuse(errNotAllowed)
	}
	place := c.places[id]
	switch below {
	case "":
		if !c.token.may(AccountRead) {
			return c.refuse(errNotAllowed)
		}
		return result(c.accountObject(&c.config.Accounts[i]), nil)
	case "tokens/verify":
		return c.verify()
	case "rulesets":
		return page(c.r, []any{}, 100)
	case "load_balancers/pools":
		return c.list(LoadBalancersRead, c.pools(id), 100)
	case "cfd_tunnel", "tunnels":
		return c.list(TunnelsRead, place.tunnels(c.now), 1000)
	case "warp_connector":
		return c.list(TunnelsRead, nil, 1000)
	}
	if tunnel, ok := strings.CutPrefix(below, "cfd_tunnel/"); ok {
		tunnel, _ = strings.CutSuffix(tunnel, "/connections")
		for n := range place.things(tunnelProduct) {
			switch t := place.tunnel(n+1, c.now); {
			case t["id"] != tunnel:
			case strings.HasSuffix(below, "/connections"):
				return c.list(TunnelsRead, place.connectors(n+1, c.now), 1000)
			case c.token.may(TunnelsRead):
				return result(t, nil)
			}
		}
		return c.refuse(errNotFound)
	}
	return c.refuse(errNoRoute)
}

// list is a page of what takes a permission to see.
func (c *call) list(needed Permission, all []map[string]any, most int) reply {
	if !c.token.may(needed) {
		return c.refuse(errDenied)
	}
	return pageOf(c.r, all, most, func(v map[string]any) any { return v })
}

func (c *call) verify() reply {
	t, status := c.token, c.token.status(c.now)
	v := map[string]any{"id": t.ID, "status": status}
	if !t.NotBefore.IsZero() {
		v["not_before"] = t.NotBefore.UTC().Format(time.RFC3339)
	}
	if !t.ExpiresOn.IsZero() {
		v["expires_on"] = t.ExpiresOn.UTC().Format(time.RFC3339)
	}
	return result(v, []any{map[string]any{"code": 10000, "message": "This API Token is valid and " + status, "type": nil}})
}

func (c *call) accountObject(a *Account) map[string]any {
	return map[string]any{
		"id": a.ID, "name": c.name(FaultAccountName, a.ID, a.Name, c.now), "type": "standard",
		"settings": map[string]any{"enforce_twofactor": false}, "created_on": "2020-01-01T00:00:00Z",
	}
}

func (c *call) listAccounts() reply {
	list := []any{}
	for i := range c.config.Accounts {
		if a := &c.config.Accounts[i]; c.token.may(AccountRead) && c.token.seesAccount(a.ID) && a.there(c.now) {
			list = append(list, c.accountObject(a))
		}
	}
	return page(c.r, list, 2*maxPerPage)
}

func (c *call) listZones() reply {
	q := c.r.URL.Query()
	var zones []*zoneState
	for _, z := range c.alive(c.now) {
		if !c.token.may(ZoneRead) || !c.token.seesZone(z) ||
			q.Has("account.id") && q.Get("account.id") != z.account ||
			q.Has("name") && q.Get("name") != z.name ||
			q.Has("status") && q.Get("status") != z.status() {
			continue
		}
		zones = append(zones, z)
	}
	slices.SortFunc(zones, func(a, b *zoneState) int {
		c := strings.Compare(a.name, b.name)
		if q.Get("direction") == "desc" {
			return -c
		}
		return c
	})
	return pageOf(c.r, zones, maxPerPage, func(z *zoneState) any { return c.zoneObject(z) })
}

// plans are the plan objects by plan; the free plan's id is widely relied on.
var plans = map[Plan]map[string]any{
	Free:       {"id": "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "name": "Free Website", "price": 0},
	Pro:        {"id": "1feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "name": "Pro Website", "price": 25},
	Business:   {"id": "2feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "name": "Business Website", "price": 250},
	Enterprise: {"id": "3feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "name": "Enterprise Website", "price": 0},
}

func (c *call) zoneObject(z *zoneState) map[string]any {
	s, now := c.Server, c.now
	account := map[string]any{"id": z.account, "name": ""}
	for _, a := range s.config.Accounts {
		if a.ID == z.account {
			account["name"] = s.name(FaultAccountName, a.ID, a.Name, now)
		}
	}
	plan := map[string]any{
		"legacy_id": string(z.plan), "currency": "USD", "frequency": "monthly",
		"is_subscribed": z.plan != Free, "can_subscribe": true, "externally_managed": false,
	}
	for k, v := range plans[z.plan] {
		plan[k] = v
	}
	created := z.Created
	if created.IsZero() {
		created = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	on := created.UTC().Format(time.RFC3339)
	return map[string]any{
		"id": z.ID, "name": s.name(FaultZoneName, z.ID, z.name, now), "status": z.status(), "paused": s.or(FaultZonePaused, z, z.paused, now), "type": "full", "development_mode": 0,
		"name_servers": []string{"ada.ns.example", "bob.ns.example"}, "original_name_servers": []string{"ns1.registrar.example"},
		"created_on": s.or(FaultZoneCreated, z, on, now), "modified_on": on, "activated_on": on,
		"account": account, "owner": map[string]any{"id": nil, "type": "user", "email": nil},
		"plan": plan, "permissions": []string{"#zone:read", "#analytics:read"},
	}
}

// rulesets are the zone's firewall rulesets, one for each source, with the
// rules that its firewall events name. They have a new version every day.
func (c *call) rulesets(z *zoneState) []map[string]any {
	phases := []struct{ source, phase, kind, name string }{
		{"firewallCustom", "http_request_firewall_custom", "zone", "default"},
		{"firewallManaged", "http_request_firewall_managed", "managed", "Cloudflare Managed Ruleset"},
		{"rateLimit", "http_ratelimit", "zone", "default"},
	}
	today := c.now.UTC().Truncate(day)
	var out []map[string]any
	for _, p := range phases {
		rules := []any{}
		var seen []string
		for i := range z.events.Templates() {
			tpl := &z.events.Templates()[i]
			id := tpl.String("ruleId")
			if tpl.String("source") != p.source || slices.Contains(seen, id) {
				continue
			}
			seen = append(seen, id)
			rules = append(rules, map[string]any{
				"id": id, "description": tpl.String("description"), "action": tpl.String("action"),
				"expression": "true", "enabled": true, "ref": id, "version": "1",
			})
		}
		out = append(out, map[string]any{
			"id": traffic.RulesetID(p.source, z.Name), "name": p.name, "description": "", "kind": p.kind, "phase": p.phase,
			"version": strconv.FormatInt(today.Unix()/int64(day/time.Second)%1000, 10), "last_updated": today.Format(time.RFC3339), "rules": rules,
		})
	}
	return out
}
