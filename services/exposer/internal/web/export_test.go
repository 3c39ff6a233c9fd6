package web

import "time"

// Limits are the limits of the handler, for tests that want to reach them soon.
type Limits struct {
	Patience, Stall, Scrape, BackfillStall, Backfill time.Duration
}

// With returns the configuration with those limits that are not zero.
func (c Config) With(l Limits) Config {
	own := defaultLimits
	for _, t := range []struct {
		to   *time.Duration
		from time.Duration
	}{{&own.patience, l.Patience}, {&own.stall, l.Stall}, {&own.scrape, l.Scrape}, {&own.backfillStall, l.BackfillStall}, {&own.backfill, l.Backfill}} {
		if t.from != 0 {
			*t.to = t.from
		}
	}
	c.limits = &own
	return c
}
