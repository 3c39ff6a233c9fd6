package traffic

import "fmt"

// Pool is one pool of a load balancer.
type Pool struct {
	ID, Name, Region string
	RTT              uint64 // ms
	Origins          []Origin
}

// Origin is one server of a pool.
type Origin struct {
	Name, Address string
	Weight        float64
}

// Pools are the pools that the load balancers of a zone choose from.
func Pools(zoneID, zone string) []Pool {
	var out []Pool
	for i, where := range []struct {
		name, region string
		rtt          uint64
	}{{"eu", "WEU", 24}, {"us", "ENAM", 81}} {
		p := Pool{ID: ThingID(zoneID, "pool", i), Name: where.name + "-" + zone, Region: where.region, RTT: where.rtt}
		for k := range 2 {
			p.Origins = append(p.Origins, Origin{Name: fmt.Sprintf("%s-%d", where.name, k+1), Address: fmt.Sprintf("192.0.2.%d", 10*i+k+1), Weight: 1 - .5*float64(k)})
		}
		out = append(out, p)
	}
	return out
}

// balancerAxis says which pool and origin a request went to, and how the others were:
// in one of many requests, and more of them in spells of failure, the first pool is
// down and the next one serves in its place.
func balancerAxis(zoneID, zone string) []option {
	pools := Pools(zoneID, zone)
	number := func(yes bool) uint64 {
		if yes {
			return 1
		}
		return 0
	}
	var out []option
	for _, down := range []bool{false, true} {
		for i, p := range pools {
			if down && i == 0 {
				continue
			}
			for k, o := range p.Origins {
				weight := o.Weight * float64(len(pools)-i)
				if down {
					weight = .05 * o.Weight
				}
				out = append(out, option{weight: weight, incident: down, attrs: map[string]any{
					"region": p.Region, "selectedPoolId": p.ID, "selectedPoolName": p.Name, "selectedPoolIndex": uint64(i),
					"selectedPoolHealthy": uint64(1), "selectedPoolHealthChecksEnabled": uint64(1), "selectedPoolAvgRttMs": p.RTT,
					"selectedOriginName": o.Name, "selectedOriginNames": o.Name, "selectedOriginIndex": uint64(k),
					"numberOriginsSelected": uint64(1), "multipleOriginsSelected": uint64(0), "errorType": "",
					"pools": poolList(pools, down), "origins": originList(p, k, number),
				}})
			}
		}
	}
	return out
}

func poolList(pools []Pool, firstDown bool) []map[string]any {
	var out []map[string]any
	for i, p := range pools {
		healthy := uint64(1)
		if firstDown && i == 0 {
			healthy = 0
		}
		out = append(out, map[string]any{"id": p.ID, "poolName": p.Name, "healthy": healthy, "healthCheckEnabled": uint64(1), "avgRttMs": p.RTT, "distance": 1.5 * float64(i)})
	}
	return out
}

func originList(p Pool, selected int, number func(bool) uint64) []map[string]any {
	var out []map[string]any
	for k, o := range p.Origins {
		out = append(out, map[string]any{
			"originName": o.Name, "fqdn": o.Name + ".example", "ipv4": o.Address, "ipv6": "", "health": uint64(1),
			"selected": number(k == selected), "weight": o.Weight,
		})
	}
	return out
}
