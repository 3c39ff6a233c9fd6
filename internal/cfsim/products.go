package cfsim

import (
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// Products that only REST shows.
const (
	tunnelProduct      = "cloudflareTunnels"
	certificateProduct = "certificates"
	hostnameProduct    = "customHostnames"
)

// restThings is how many of them there are unless the product says it.
var restThings = map[string]int{tunnelProduct: 3, certificateProduct: 2, hostnameProduct: 24}

// things is how many things of a product the zone or account has.
func (z *zone) things(product string) int {
	p, ok := z.product(product)
	switch {
	case !ok:
		return 0
	case p.Things > 0:
		return p.Things
	case restThings[product] > 0:
		return restThings[product]
	}
	for _, s := range traffic.Sources() {
		if s.Product == product {
			return s.Things
		}
	}
	return 0
}

func stamped(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// balancers are the load balancers that the zone's requests name.
func (z *zone) balancers() []map[string]any {
	var out []map[string]any
	var pools []string
	for _, p := range traffic.Pools(z.ID, z.Name) {
		pools = append(pools, p.ID)
	}
	for n := range z.things("loadBalancing") {
		out = append(out, map[string]any{
			"id": traffic.ThingID(z.ID, "loadBalancing", n+1), "name": fmt.Sprintf("lb-%d.%s", n+1, z.Name), "description": "", "enabled": true,
			"proxied": true, "ttl": 30, "steering_policy": "dynamic_latency", "session_affinity": "none",
			"default_pools": pools, "fallback_pool": pools[len(pools)-1], "region_pools": map[string]any{}, "created_on": "2024-01-01T00:00:00Z",
		})
	}
	return out
}

// pools are those of all load balancers of an account. The first pool of a zone is
// unhealthy while requests find it down more than seldom.
func (c *call) pools(account string) []map[string]any {
	var out []map[string]any
	for _, z := range c.alive(c.now) {
		if z.account != account || z.things("loadBalancing") == 0 || !c.token.seesZone(z) {
			continue
		}
		failing := z.model("loadBalancingRequestsAdaptive").Failing(floorDiv(c.now.Unix(), 60))
		for i, p := range traffic.Pools(z.ID, z.Name) {
			healthy := i > 0 || !failing
			var origins []map[string]any
			for _, o := range p.Origins {
				origins = append(origins, map[string]any{"name": o.Name, "address": o.Address, "enabled": true, "weight": o.Weight, "healthy": healthy, "header": map[string]any{}})
			}
			out = append(out, map[string]any{
				"id": p.ID, "name": p.Name, "description": "", "enabled": true, "healthy": healthy, "minimum_origins": 1,
				"monitor": traffic.ThingID(z.ID, "monitor", i), "check_regions": []string{p.Region}, "origins": origins,
				"created_on": "2024-01-01T00:00:00Z", "modified_on": "2024-01-01T00:00:00Z",
			})
		}
	}
	return out
}

// tunnels are the Zero Trust tunnels of the account that the zone stands for.
func (z *zone) tunnels(now time.Time) []map[string]any {
	var out []map[string]any
	for n := range z.things(tunnelProduct) {
		out = append(out, z.tunnel(n+1, now))
	}
	return out
}

// tunnelState is the state of a tunnel in the current quarter of an hour, and how many
// connections it has. The last of several tunnels was never used.
func (z *zone) tunnelState(n int, now time.Time) (state string, connections int) {
	u := traffic.Unit(traffic.Hash(z.seed, 81, uint64(n), uint64(floorDiv(now.Unix(), 900))))
	switch things := z.things(tunnelProduct); {
	case n == things && n > 1:
		return "inactive", 0
	case u < .03:
		return "down", 0
	case u < .1:
		return "degraded", 2
	}
	return "healthy", 4
}

func (z *zone) tunnel(n int, now time.Time) map[string]any {
	state, count := z.tunnelState(n, now)
	v := map[string]any{
		"id": traffic.UUID(traffic.ThingID(z.ID, tunnelProduct, n)), "account_tag": z.ID, "name": fmt.Sprintf("tunnel-%d", n), "status": state,
		"tun_type": "cfd_tunnel", "remote_config": true, "created_at": "2024-01-01T00:00:00Z", "deleted_at": nil,
		"conns_active_at": nil, "conns_inactive_at": nil, "connections": []any{}, "metadata": map[string]any{},
	}
	if count > 0 {
		v["conns_active_at"], v["connections"] = "2026-01-01T00:00:00Z", z.connections(n, count)
	}
	return v
}

// connector is the id of the program at a tunnel's end.
func (z *zone) connector(n int) string {
	return traffic.UUID(traffic.ThingID(z.ID, "connector", n))
}

func (z *zone) connections(n, count int) []map[string]any {
	var out []map[string]any
	for i := range count {
		out = append(out, map[string]any{
			"id": traffic.UUID(traffic.ThingID(z.ID, fmt.Sprintf("connection-%d", n), i)), "uuid": traffic.UUID(traffic.ThingID(z.ID, fmt.Sprintf("connection-%d", n), i)),
			"client_id": z.connector(n), "client_version": "2026.10.0", "colo_name": []string{"fra03", "fra08", "ams01", "ams05"}[i%4],
			"is_pending_reconnect": false, "origin_ip": fmt.Sprintf("203.0.113.%d", n), "opened_at": "2026-01-01T00:00:00Z",
		})
	}
	return out
}

// connectors are the programs connected to a tunnel.
func (z *zone) connectors(n int, now time.Time) []map[string]any {
	_, count := z.tunnelState(n, now)
	if count == 0 {
		return nil
	}
	return []map[string]any{{
		"id": z.connector(n), "version": "2026.10.0", "arch": "linux_amd64", "run_at": "2026-01-01T00:00:00Z", "features": []string{"ha-origin"},
		"config_version": 3, "conns": z.connections(n, count),
	}}
}

// certificatePacks are the zone's certificates. They are renewed every 60 days and
// expire after 90.
func (z *zone) certificatePacks(now time.Time) []map[string]any {
	const renewal = 60 * day
	issued := time.Unix(0, 0).Add(now.Sub(time.Unix(0, 0)).Truncate(renewal)).Add(time.Duration(traffic.Hash(z.seed, 82)%50) * day)
	if issued.After(now) {
		issued = issued.Add(-renewal)
	}
	var out []map[string]any
	for n := range z.things(certificateProduct) {
		kind, issuer := "universal", "GoogleTrustServices"
		if n > 0 {
			kind, issuer = "advanced", "LetsEncrypt"
		}
		id, hosts := traffic.ThingID(z.ID, certificateProduct, n+1), []string{z.Name, "*." + z.Name}
		out = append(out, map[string]any{
			"id": id, "type": kind, "status": "active", "hosts": hosts, "certificate_authority": issuer, "validation_method": "txt", "validity_days": 90,
			"primary_certificate": id, "certificates": []map[string]any{{
				"id": id, "issuer": issuer, "signature": "ECDSAWithSHA256", "status": "active", "hosts": hosts, "bundle_method": "ubiquitous",
				"uploaded_on": stamped(issued), "modified_on": stamped(issued), "expires_on": stamped(issued.Add(90 * day)), "priority": 1,
			}},
		})
	}
	return out
}

// customHostnames are the names that customers of the zone point to it.
func (z *zone) customHostnames() []map[string]any {
	var out []map[string]any
	for n := range z.things(hostnameProduct) {
		status := "active"
		switch n % 12 {
		case 7:
			status = "pending_validation"
		case 11:
			status = "expired"
		}
		issuer := []string{"google", "lets_encrypt", "ssl_com"}[n%3]
		out = append(out, map[string]any{
			"id": traffic.UUID(traffic.ThingID(z.ID, hostnameProduct, n+1)), "hostname": fmt.Sprintf("shop-%d.customer.example", n+1), "status": "active",
			"ssl":        map[string]any{"id": traffic.UUID(traffic.ThingID(z.ID, "ssl", n+1)), "type": "dv", "method": "http", "status": status, "certificate_authority": issuer, "wildcard": false},
			"created_at": "2025-01-01T00:00:00Z",
		})
	}
	return out
}
