package cfsim

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
	"github.com/weir-metrics/weir/internal/clock"
)

// DemoToken is the secret of the token in [Demo] and [Recorded]. It opens
// nothing but a simulator.
const DemoToken = "simulated-token-0123456789abcdef0123456789"

// Tag makes an id of 32 hexadecimal digits from a name, always the same one.
func Tag(name string) string {
	h := traffic.HashString(name)
	return fmt.Sprintf("%016x%016x", h, traffic.Hash(h))
}

// GoodToken is a token with that secret that may do everything.
func GoodToken(secret string) Token {
	return Token{Secret: secret, ID: Tag("token:" + secret), User: Tag("user:" + secret)}
}

// Demo is a small world: two accounts, eight zones on all plans, from a busy
// shop to a parked name without any traffic. Zones exist since before any
// history that can be asked for. The clock decides what is "now".
func Demo(clk clock.Clock, seed uint64) Config {
	retail, labs := Account{ID: Tag("account:retail"), Name: "Example Retail"}, Account{ID: Tag("account:labs"), Name: "Example Labs"}
	retail.Workers = []traffic.Script{
		{Name: "checkout", RequestsPerMinute: 600, Subrequests: 2, Failing: .004},
		{Name: "images", RequestsPerMinute: 90},
		{Name: "nightly-report", RequestsPerMinute: .2, Subrequests: 12, Failing: .1},
	}
	retail.Products = traffic.AllProducts(false)
	zone := func(account Account, name string, plan Plan, p traffic.Profile) Zone {
		z := Zone{ID: Tag("zone:" + name), Name: name, Account: account.ID, Plan: plan, Traffic: p}
		if p.RequestsPerMinute >= 1 {
			z.Products = traffic.AllProducts(true)
		}
		return z
	}
	return Config{
		Clock: clk, Seed: seed,
		Accounts: []Account{retail, labs},
		Zones: []Zone{
			zone(retail, "shop.example", Enterprise, traffic.Profile{RequestsPerMinute: 24000, PeakHour: 19, SpikesPerDay: 3, IncidentsPerDay: 1, Cells: 64}),
			zone(retail, "checkout.example", Business, traffic.Profile{RequestsPerMinute: 3100, PeakHour: 19, SpikesPerDay: 2, IncidentsPerDay: 1.5}),
			zone(retail, "media.example", Pro, traffic.Profile{RequestsPerMinute: 9200, PeakHour: 20, DailySwing: .8, SpikesPerDay: 1}),
			zone(retail, "blog.example", Free, traffic.Profile{RequestsPerMinute: 140, PeakHour: 14, SpikesPerDay: 1, Plaintext: .1}),
			zone(labs, "api.example", Pro, traffic.Profile{RequestsPerMinute: 1600, PeakHour: 10, DailySwing: .3, IncidentsPerDay: 2, Subrequests: .4}),
			zone(labs, "docs.example", Free, traffic.Profile{RequestsPerMinute: 60, PeakHour: 13}),
			zone(labs, "quiet.example", Pro, traffic.Profile{RequestsPerMinute: .4, Cells: 16}),
			zone(labs, "parked.example", Pro, traffic.Profile{}),
		},
		Tokens:   []Token{GoodToken(DemoToken)},
		Settling: Settling{Stragglers: .004},
	}
}

// Sized is the world of [Demo] with so many zones: the first of its own, then ones
// of a few hundred requests a minute, by turns in its two accounts. plans are
// dealt out in turn; nil leaves Demo's zones as they are and gives the others all
// four in turn.
func Sized(clk clock.Clock, seed uint64, zones int, plans []Plan) Config {
	c := Demo(clk, seed)
	c.Zones = c.Zones[:min(max(zones, 0), len(c.Zones))]
	for i := len(c.Zones); i < zones; i++ {
		name := fmt.Sprintf("zone-%05d.example", i+1)
		c.Zones = append(c.Zones, Zone{
			ID: Tag("zone:" + name), Name: name, Account: c.Accounts[i%len(c.Accounts)].ID, Plan: planOrder[i%len(planOrder)],
			Traffic: traffic.Profile{RequestsPerMinute: 50 + float64(i%16)*50, PeakHour: i % 24, Cells: 16},
		})
	}
	for i := range c.Zones {
		if len(plans) > 0 {
			c.Zones[i].Plan = plans[i%len(plans)]
		}
	}
	return c
}

// Plans are all plans, in ascending order.
func Plans() []Plan { return slices.Clone(planOrder) }

// Recorded is a world that repeats readings of the real API, read from CSV
// with the columns zone, asked_until, bucket_start and requests: one reading
// for each bucket, shown as it is, complete or not. Of several readings of a
// bucket the last line counts. Only the totals are recorded; the breakdowns
// are drawn.
func Recorded(clk clock.Clock, seed uint64, readings io.Reader) (Config, error) {
	account := Account{ID: Tag("account:recorded"), Name: "Recorded"}
	c := Config{Clock: clk, Seed: seed, Accounts: []Account{account}, Tokens: []Token{GoodToken(DemoToken)}, Settling: Settling{Off: true}}
	lines := csv.NewReader(readings)
	lines.FieldsPerRecord = 4
	records, err := lines.ReadAll()
	if err != nil {
		return Config{}, fmt.Errorf("cfsim: read readings: %w", err)
	}
	byZone := map[string]int{}
	for n, r := range records {
		if n == 0 {
			continue // names of the columns
		}
		start, err := time.Parse(time.RFC3339, r[2])
		if err != nil || start.Unix()%60 != 0 {
			return Config{}, fmt.Errorf("cfsim: reading %d: bucket start %q must be a whole minute in RFC 3339", n, r[2])
		}
		requests, err := strconv.ParseUint(r[3], 10, 64)
		if err != nil {
			return Config{}, fmt.Errorf("cfsim: reading %d: requests: %w", n, err)
		}
		i, ok := byZone[r[0]]
		if !ok {
			i = len(c.Zones)
			byZone[r[0]] = i
			c.Zones = append(c.Zones, Zone{
				ID: Tag("zone:" + r[0] + ".example"), Name: r[0] + ".example", Account: account.ID, Plan: Enterprise,
				Traffic: traffic.Profile{Recorded: map[int64]uint64{}},
			})
		}
		c.Zones[i].Traffic.Recorded[start.Unix()/60] = requests
	}
	return c, nil
}
