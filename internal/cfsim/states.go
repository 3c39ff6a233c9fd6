package cfsim

import (
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// States of the REST API that [Server.TrueState] knows, by their path below the zone or
// account. Connectors are those of all tunnels, each with the id of its tunnel as tunnel_id;
// rulesets have their rules.
const (
	StateTunnels      = "cfd_tunnel"
	StateConnectors   = "cfd_tunnel/connections"
	StatePools        = "load_balancers/pools"
	StateCertificates = "ssl/certificate_packs"
	StateHostnames    = "custom_hostnames"
	StateRulesets     = "rulesets"
)

// TrueState is what a list of the REST API has of a zone or account at a time, for a token that
// sees everything: all pages, without faults.
func (s *Server) TrueState(scope schema.Scope, tag, state string, at time.Time) ([]map[string]any, error) {
	c := &call{Server: s, token: &token{}, now: at}
	if scope == schema.Account {
		place := s.places[tag]
		if place == nil {
			return nil, fmt.Errorf("cfsim: account %q is not configured", tag)
		}
		switch state {
		case StateTunnels:
			return place.tunnels(at), nil
		case StateConnectors:
			var out []map[string]any
			for n := range place.things(tunnelProduct) {
				for _, one := range place.connectors(n+1, at) {
					one["tunnel_id"] = place.tunnel(n+1, at)["id"]
					out = append(out, one)
				}
			}
			return out, nil
		case StatePools:
			return c.pools(tag), nil
		}
		return nil, fmt.Errorf("cfsim: %q is no state of an account", state)
	}
	alive := s.alive(at)
	i := slices.IndexFunc(alive, func(z *zoneState) bool { return z.ID == tag })
	if i < 0 {
		return nil, fmt.Errorf("cfsim: zone %q is not there", tag)
	}
	switch z := alive[i]; state {
	case StateCertificates:
		return z.certificatePacks(at), nil
	case StateHostnames:
		return z.customHostnames(), nil
	case StateRulesets:
		return c.rulesets(z), nil
	}
	return nil, fmt.Errorf("cfsim: %q is no state of a zone", state)
}
