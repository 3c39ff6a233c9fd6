package e2e

import (
	"math"
	"time"
)

// fault is a kind of trouble: how long it takes, in seconds, how it begins and
// how it ends. Faults of one group concern the same thing and never overlap.
type fault struct {
	name, group string
	min, max    float64
	begin, end  func(*campaign, act)
}

// diskFull cannot be done everywhere; where not, it counts as not done.
const diskFull = "database's disk full"

func nothing(*campaign, act) {}

// whole is a fault that takes care of its own end.
func whole(name, group string, from, to float64, begin func(*campaign, act)) *fault {
	return &fault{name: name, group: group, min: from, max: to, begin: begin, end: nothing}
}

// faultTable is every kind but those of Cloudflare's answers and of zones, which
// the simulator makes. Most are healed by themselves; the rest by [campaign.heal].
var faultTable = []*fault{
	// Processes. The lease is 15 s, so a killed leader is missed for as long.
	whole("collector killed", "collector", .2, 6, func(c *campaign, a act) { c.collectors[a.who].kill(a.lasts) }),
	whole("leader killed", "collector", 1, 18, func(c *campaign, a act) { c.leader(a.who).kill(a.lasts) }),
	whole("both collectors killed", "collector", .2, 5, func(c *campaign, a act) {
		c.collectors[0].kill(a.lasts)
		c.collectors[1].kill(seconds(a.lasts.Seconds() * a.size))
	}),
	whole("leader stopped in order", "collector", .2, 5, func(c *campaign, a act) { c.leader(a.who).restart(a.lasts) }),
	{"leader paused beyond its lease", "collector", 16, 20, (*campaign).freezeLeader, (*campaign).thawCollectors},
	{"leader paused for a moment", "collector", .5, 8, (*campaign).freezeLeader, (*campaign).thawCollectors},
	whole("exposer killed", "exposer", .2, 5, func(c *campaign, a act) { c.exposers[a.who].kill(a.lasts) }),
	whole("both exposers killed", "exposer", .2, 5, func(c *campaign, a act) {
		c.exposers[0].kill(a.lasts)
		c.exposers[1].kill(seconds(a.lasts.Seconds() * a.size))
	}),
	whole("exposer stopped in order", "exposer", .2, 5, func(c *campaign, a act) { c.exposers[a.who].restart(a.lasts) }),
	{
		"exposer paused", "exposer", 1, 8,
		func(c *campaign, a act) { c.exposers[a.who].freeze() }, func(c *campaign, a act) { c.exposers[a.who].thaw() },
	},

	// The database.
	{
		"database restarted", "database", .1, 4,
		func(c *campaign, _ act) { c.database.Stop() }, func(c *campaign, _ act) { c.database.Start() },
	},
	{
		"database killed", "database", .1, 4,
		func(c *campaign, _ act) { c.database.Kill() }, func(c *campaign, _ act) { c.database.Start() },
	},
	{
		"database hangs", "database", 1, 14,
		func(c *campaign, _ act) { c.database.Freeze() }, func(c *campaign, _ act) { c.database.Thaw() },
	},
	{
		"database slow", "database", 5, 12,
		func(c *campaign, a act) {
			c.each(c.toDatabase, func(p *proxy) { p.latency.Store(int64(seconds(.005 * math.Pow(60, a.size)))) }) // 5 to 300 ms
		}, func(c *campaign, _ act) { c.each(c.toDatabase, (*proxy).heal) },
	},
	{
		"database connections cut in mid-statement", "database", 3, 10,
		func(c *campaign, a act) {
			c.each(c.toDatabase, func(p *proxy) { p.cutWithin(20000 + int(a.size*40000)) })
		},
		func(c *campaign, _ act) { c.each(c.toDatabase, (*proxy).heal) },
	},
	{
		"leader cut off from the database", "database", 6, 20,
		func(c *campaign, a act) { c.toDatabase[c.leading(a.who)].hang() },
		func(c *campaign, a act) {
			// What was under way is lost, or arrives after all, long after
			// somebody else has begun to lead.
			if a.size < .5 {
				c.each(c.toDatabase, (*proxy).cut)
			}
			c.each(c.toDatabase, (*proxy).heal)
		},
	},
	// Only the database can refuse it then: its writer believed that it led when
	// it wrote. Nobody may have stored the same meanwhile, hence no Cloudflare.
	{
		"append arrives in another's term", "database", 17, 21,
		func(c *campaign, a act) {
			leader := c.leading(a.who)
			c.toDatabase[leader].hangAt("http_5m")
			c.toCloudflare[1-leader].refuse.Store(true)
			c.toCloudflare[1-leader].cut()
		},
		func(c *campaign, _ act) {
			c.each(c.toDatabase, (*proxy).heal)
			time.Sleep(300 * time.Millisecond)
			c.each(c.toCloudflare, (*proxy).heal)
		},
	},
	{
		"database out of connections", "database", 4, 10,
		func(c *campaign, _ act) {
			c.release = c.database.Occupy()
			c.each(c.toDatabase, (*proxy).cut)
		}, (*campaign).releaseConnections,
	},
	{diskFull, "database", 2, 8, (*campaign).fillDisk, (*campaign).freeDisk},

	// Streams and requests.
	{
		"streams cut in mid-message", "stream", 3, 10,
		func(c *campaign, a act) {
			c.each(c.toCollector, func(p *proxy) { p.cutWithin(2000 + int(a.size*60000)) })
		},
		func(c *campaign, _ act) { c.each(c.toCollector, (*proxy).heal) },
	},
	{
		"streams hang", "stream", 2, 10,
		func(c *campaign, _ act) { c.each(c.toCollector, (*proxy).hang) },
		func(c *campaign, _ act) { c.each(c.toCollector, (*proxy).heal) },
	},
	{
		"one collector refuses streams", "stream", 2, 10,
		func(c *campaign, a act) {
			for i, p := range c.toCollector {
				if i%2 == a.who {
					p.refuse.Store(true)
					p.cut()
				}
			}
		}, func(c *campaign, _ act) { c.each(c.toCollector, (*proxy).heal) },
	},
	{
		"requests cut in mid-answer", "request", 3, 10,
		func(c *campaign, a act) {
			c.each(c.toCloudflare, func(p *proxy) { p.cutWithin(1000 + int(a.size*20000)) })
		},
		func(c *campaign, _ act) { c.each(c.toCloudflare, (*proxy).heal) },
	},
	{
		"requests hang", "request", 2, 8,
		func(c *campaign, _ act) { c.each(c.toCloudflare, (*proxy).hang) },
		func(c *campaign, _ act) { c.each(c.toCloudflare, (*proxy).heal) },
	},
	{
		"Cloudflare cannot be reached", "request", 2, 10,
		func(c *campaign, _ act) {
			c.each(c.toCloudflare, func(p *proxy) { p.refuse.Store(true); p.cut() })
		}, func(c *campaign, _ act) { c.each(c.toCloudflare, (*proxy).heal) },
	},

	// Prometheus.
	{
		"Prometheus restarted", "prometheus", .1, 1,
		func(c *campaign, _ act) { c.stopPrometheus(false) }, func(c *campaign, _ act) { c.prometheus.Start() },
	},
	{
		"Prometheus killed", "prometheus", .1, 3,
		func(c *campaign, _ act) { c.stopPrometheus(true) }, func(c *campaign, _ act) { c.prometheus.Start() },
	},
	{
		"Prometheus away", "prometheus", 4, 12,
		func(c *campaign, _ act) { c.stopPrometheus(false) }, func(c *campaign, _ act) { c.prometheus.Start() },
	},
}

func (c *campaign) each(proxies []*proxy, do func(*proxy)) {
	for _, p := range proxies {
		do(p)
	}
}

func (c *campaign) leader(other int) *member { return c.collectors[c.leading(other)] }

func (c *campaign) freezeLeader(a act) { c.leader(a.who).freeze() }

func (c *campaign) thawCollectors(act) {
	for _, m := range c.collectors {
		m.thaw()
	}
}

func (c *campaign) releaseConnections(act) {
	if c.release != nil {
		c.release()
		c.release = nil
	}
}

func (c *campaign) fillDisk(act) {
	if c.disk != nil {
		c.disk.Fill()
	}
}

func (c *campaign) freeDisk(act) {
	if c.disk != nil {
		c.disk.Free()
		// A Postgres that cannot write its log stops.
		time.Sleep(200 * time.Millisecond)
		c.database.Revive()
	}
}

// stopPrometheus notes what it has to complain about before it forgets.
func (c *campaign) stopPrometheus(kill bool) {
	c.violations("Prometheus", complaints(c.prometheus))
	if kill {
		c.prometheus.Kill()
	} else {
		c.prometheus.Stop()
	}
}
