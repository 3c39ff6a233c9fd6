package cfsim

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// maxPerPage is the most zones or accounts on one page.
const maxPerPage = 50

// rest answers the REST calls that exporters make.
func (s *Server) rest(r *http.Request, path string, t *token, now time.Time, entry *Request) reply {
	if r.Method != http.MethodGet {
		return s.restRefuse(&restError{status: http.StatusMethodNotAllowed, code: 10405, message: "Method not allowed for this authentication scheme"}, entry)
	}
	part := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "/user/tokens/verify":
		return s.verify(t, now)
	case len(part) == 4 && part[0] == "accounts" && part[2] == "tokens" && part[3] == "verify":
		if !t.seesAccount(part[1]) {
			return s.restRefuse(errNotAllowed, entry)
		}
		return s.verify(t, now)
	case path == "/accounts":
		return s.listAccounts(r, t, now)
	case path == "/zones":
		return s.listZones(r, t, now)
	case part[0] == "zones" && len(part) >= 2:
		return s.zoneCall(r, part, t, now, entry)
	case part[0] == "accounts" && len(part) == 3 && part[2] == "rulesets":
		return page(r, []any{}, 100)
	}
	return s.restRefuse(errNoRoute, entry)
}

// zoneCall answers /zones/{id} and what is below it.
func (s *Server) zoneCall(r *http.Request, part []string, t *token, now time.Time, entry *Request) reply {
	entry.addZone(part[1])
	var z *zoneState
	for _, c := range s.alive(now) {
		if c.ID == part[1] && t.seesZone(c) {
			z = c
		}
	}
	switch {
	case !tagPattern.MatchString(part[1]):
		return s.restRefuse(errNoRoute, entry)
	case z == nil || !t.may(ZoneRead):
		return s.restRefuse(errNotAllowed, entry)
	}
	switch below := strings.Join(part[2:], "/"); below {
	case "":
		return result(s.zoneObject(z, now), nil)
	case "rulesets":
		list := []any{}
		for _, rs := range s.rulesets(z, now) {
			delete(rs, "rules")
			list = append(list, rs)
		}
		return page(r, list, 100)
	case "firewall/rules":
		return page(r, []any{}, 100)
	default:
		for _, rs := range s.rulesets(z, now) {
			if below == "rulesets/"+rs["id"].(string) || below == "rulesets/phases/"+rs["phase"].(string)+"/entrypoint" {
				return result(rs, nil)
			}
		}
	}
	return s.restRefuse(&restError{status: http.StatusNotFound, code: 10003, message: "could not find entrypoint ruleset or resource"}, entry)
}

func (s *Server) verify(t *token, now time.Time) reply {
	status := t.status(now)
	v := map[string]any{"id": t.ID, "status": status}
	if !t.NotBefore.IsZero() {
		v["not_before"] = t.NotBefore.UTC().Format(time.RFC3339)
	}
	if !t.ExpiresOn.IsZero() {
		v["expires_on"] = t.ExpiresOn.UTC().Format(time.RFC3339)
	}
	return result(v, []any{map[string]any{"code": 10000, "message": "This API Token is valid and " + status, "type": nil}})
}

func (s *Server) listAccounts(r *http.Request, t *token, now time.Time) reply {
	list := []any{}
	for _, a := range s.config.Accounts {
		if t.may(AccountRead) && t.seesAccount(a.ID) && a.there(now) {
			list = append(list, map[string]any{
				"id": a.ID, "name": s.name(FaultAccountName, a.ID, a.Name, now), "type": "standard",
				"settings": map[string]any{"enforce_twofactor": false}, "created_on": "2020-01-01T00:00:00Z",
			})
		}
	}
	return page(r, list, 2*maxPerPage)
}

func (s *Server) listZones(r *http.Request, t *token, now time.Time) reply {
	q := r.URL.Query()
	var zones []*zoneState
	for _, z := range s.alive(now) {
		if !t.may(ZoneRead) || !t.seesZone(z) ||
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
	return pageOf(r, zones, maxPerPage, func(z *zoneState) any { return s.zoneObject(z, now) })
}

// plans are the plan objects by plan; the free plan's id is widely relied on.
var plans = map[Plan]map[string]any{
	Free:       {"id": "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "name": "Free Website", "price": 0},
	Pro:        {"id": "1feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "name": "Pro Website", "price": 25},
	Business:   {"id": "2feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "name": "Business Website", "price": 250},
	Enterprise: {"id": "3feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "name": "Enterprise Website", "price": 0},
}

func (s *Server) zoneObject(z *zoneState, now time.Time) map[string]any {
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
// rules that its firewall events name.
func (s *Server) rulesets(z *zoneState, now time.Time) []map[string]any {
	phases := []struct{ source, phase, kind, name string }{
		{"firewallCustom", "http_request_firewall_custom", "zone", "default"},
		{"firewallManaged", "http_request_firewall_managed", "managed", "Cloudflare Managed Ruleset"},
		{"rateLimit", "http_ratelimit", "zone", "default"},
	}
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
			"version": "1", "last_updated": now.UTC().Truncate(24 * time.Hour).Format(time.RFC3339), "rules": rules,
		})
	}
	return out
}

// page cuts a list by page and per_page and wraps it.
func page(r *http.Request, list []any, most int) reply {
	return pageOf(r, list, most, func(v any) any { return v })
}

// pageOf is page for a list whose entries are made only where they are sent.
func pageOf[T any](r *http.Request, list []T, most int, entry func(T) any) reply {
	number := func(name string, def int) int {
		n, err := strconv.Atoi(r.URL.Query().Get(name))
		if err != nil || n < 1 {
			return def
		}
		return n
	}
	at, per, total := number("page", 1), min(number("per_page", 20), most), len(list)
	from := min((at-1)*per, total)
	sent := []any{}
	for _, v := range list[from:min(from+per, total)] {
		sent = append(sent, entry(v))
	}
	out := envelope(true, sent, []any{}, []any{})
	out["result_info"] = map[string]any{"page": at, "per_page": per, "count": len(sent), "total_count": total, "total_pages": (total + per - 1) / per}
	return wrap(http.StatusOK, out)
}

func result(v any, messages []any) reply {
	if messages == nil {
		messages = []any{}
	}
	return wrap(http.StatusOK, envelope(true, v, []any{}, messages))
}

func envelope(success bool, result any, errs, messages []any) map[string]any {
	return map[string]any{"success": success, "result": result, "errors": errs, "messages": messages}
}

func wrap(status int, v map[string]any) reply {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the simulator's own maps
	}
	return reply{status: status, header: jsonHeader(), body: b}
}

func (s *Server) restRefuse(e *restError, entry *Request) reply {
	entry.Outcome, entry.Message = "refused", e.message
	one := map[string]any{"code": e.code, "message": e.message}
	if len(e.chain) > 0 {
		chain := []any{}
		for _, c := range e.chain {
			chain = append(chain, map[string]any{"code": c.code, "message": c.message})
		}
		one["error_chain"] = chain
	}
	return wrap(e.status, envelope(false, nil, []any{one}, []any{}))
}

// restOverrun blocks all calls of a user after too many.
func (s *Server) restOverrun(wait time.Duration, entry *Request) reply {
	out := s.restRefuse(&restError{status: http.StatusTooManyRequests, code: 971, message: "Please wait and consider throttling your request speed"}, entry)
	entry.Outcome = "limited"
	seconds := int((wait + time.Second - 1) / time.Second)
	out.header.Set("Retry-After", strconv.Itoa(seconds))
	out.header.Set("Ratelimit", `"default";r=0;t=`+strconv.Itoa(seconds))
	out.header.Set("Ratelimit-Policy", `"burst";q=`+strconv.Itoa(s.limits.RESTCalls)+`;w=`+strconv.Itoa(int(s.limits.Window.Seconds())))
	return out
}
