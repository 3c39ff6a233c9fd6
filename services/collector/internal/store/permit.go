package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// PermitBlock is a number of permits that were granted together, as stored.
type PermitBlock struct {
	N      int       `json:"n"`
	Until  time.Time `json:"until"` // counts against the limit before this time
	Holder string    `json:"holder"`
	// ID is set until the block is settled. A build that does not know the field drops
	// it, and the block then counts for its full time.
	ID string `json:"id,omitempty"`
}

// EncodePermits is the stored form of blocks: JSON, so that people can read it.
func EncodePermits(blocks []PermitBlock) string {
	out, err := json.Marshal(blocks)
	if err != nil {
		panic(err) // only for years after 9999, which Validate rejects
	}
	return string(out)
}

// DecodePermits reads the stored form; none if nothing is stored yet.
func DecodePermits(stored string) ([]PermitBlock, error) {
	if stored == "" {
		return nil, nil
	}
	var blocks []PermitBlock
	if err := json.Unmarshal([]byte(stored), &blocks); err != nil {
		return nil, fmt.Errorf("%w: permits: %w", ErrCorrupt, err)
	}
	for _, b := range blocks {
		if b.N < 1 { // it would add to the limit
			return nil, fmt.Errorf("%w: permits: a block has %d permits; it must have at least 1", ErrCorrupt, b.N)
		}
	}
	return blocks, nil
}

// Known returns the blocks of the stored form, at the store's time. If it is unreadable,
// all permits but one count as used for a span: granting that one overwrites the damaged
// value, which granting none would leave there for ever.
func (p *Permits) Known(stored string, now time.Time) []PermitBlock {
	blocks, err := DecodePermits(stored)
	if err == nil {
		return blocks
	}
	until := now.Add(p.Span)
	if own := p.Now.Add(p.Span); p.OwnTime {
		until = own
	}
	return []PermitBlock{{N: p.Limit - 1, Until: until.UTC(), Holder: "not known: what was stored is damaged"}}
}

// Validate returns every problem of the request.
func (p *Permits) Validate() error {
	var errs []error
	if p.User == "" {
		errs = append(errs, errors.New("user is empty"))
	}
	if p.Want < 1 {
		errs = append(errs, fmt.Errorf("want is %d; it must be at least 1", p.Want))
	}
	if p.Limit < 1 {
		errs = append(errs, fmt.Errorf("limit is %d; it must be at least 1", p.Limit))
	}
	if p.Span <= 0 {
		errs = append(errs, fmt.Errorf("span is %s; it must be positive", p.Span))
	}
	// 9999 is the last year of the stored format.
	if p.Now.IsZero() || p.UseBy.Before(p.Now) || p.UseBy.Add(p.Span).Year() > 9999 {
		errs = append(errs, fmt.Errorf("now is %s and use-by is %s; use-by must not be before now", p.Now, p.UseBy))
	}
	for _, spent := range p.Spent {
		if spent.Block == "" {
			errs = append(errs, errors.New("settled block has no id"))
		}
		for _, u := range spent.Uses {
			if u.N < 1 || u.Ago < 0 {
				errs = append(errs, fmt.Errorf("settled block %q has %d permits used %s ago; neither may be negative, and there must be at least 1 permit", spent.Block, u.N, u.Ago))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("reserve permits of user %q: %w", p.User, err)
	}
	return nil
}

// GrantAt is [Permits.Grant] by the store's clock, which is at now, unless the permits
// use the caller's clock. Times in the result are by the caller's clock.
func (p *Permits) GrantAt(now time.Time, blocks []PermitBlock) (Grant, []PermitBlock) {
	if p.OwnTime {
		return p.Grant(blocks)
	}
	ahead, stored := now.Sub(p.Now), *p
	stored.Now, stored.UseBy = now, p.UseBy.Add(ahead)
	grant, blocks := stored.Grant(blocks)
	if !grant.RetryAt.IsZero() {
		grant.RetryAt = grant.RetryAt.Add(-ahead)
	}
	return grant, blocks
}

// farAhead is more than the differences between clocks and settings of processes. Blocks
// that expire earlier are not changed; an alert reports if data is late.
const farAhead = 12 * time.Hour

// Grant decides how many permits can be given, from the blocks that are
// stored for the user, and returns the blocks to store instead; nil when they
// stay as they are.
//
// A block counts from its grant until UseBy + Span, or, once it is settled, until Span
// after its requests ended. So for every span (t, t+Span]: each permit used in it still
// counted when the last of them was granted, and together they were within the limit
// (G7).
func (p *Permits) Grant(blocks []PermitBlock) (Grant, []PermitBlock) {
	blocks, settled := p.settle(blocks)
	// A block that counts for hours was granted by a clock that was far ahead, or is
	// damaged. It is shortened to a block granted now: no request can count for longer,
	// and a block that never expires would stop all requests.
	latest := p.UseBy.Add(p.Span)
	for i := range blocks {
		if blocks[i].Until.After(latest.Add(farAhead)) {
			blocks[i].Until, settled = latest.UTC(), true
		}
	}
	// Expired blocks stay for another span: a process whose clock is slightly behind
	// still counts them.
	blocks = slices.DeleteFunc(blocks, func(b PermitBlock) bool { return b.Until.Before(p.Now.Add(-p.Span)) })
	slices.SortFunc(blocks, func(a, b PermitBlock) int { return a.Until.Compare(b.Until) })
	used := 0
	for _, b := range blocks {
		if b.Until.After(p.Now) {
			used += b.N
		}
	}
	if n := min(p.Want, p.Limit-used); n > 0 {
		return Grant{N: n}, append(blocks, PermitBlock{N: n, Until: p.UseBy.Add(p.Span).UTC(), Holder: p.Holder, ID: p.Block})
	}
	// The limit may have been lowered since, so the first block to expire may not be
	// enough.
	i := slices.IndexFunc(blocks, func(b PermitBlock) bool {
		if b.Until.After(p.Now) {
			used -= b.N
		}
		return used < p.Limit
	})
	retry := Grant{RetryAt: blocks[i].Until}
	if !settled {
		return retry, nil
	}
	return retry, blocks
}

// settle replaces settled blocks by the permits that were used. The caller may modify
// the result.
func (p *Permits) settle(blocks []PermitBlock) (out []PermitBlock, settled bool) {
	for _, b := range blocks {
		i := slices.IndexFunc(p.Spent, func(s Spent) bool { return b.ID != "" && s.Block == b.ID })
		if i < 0 || total(p.Spent[i].Uses) > b.N {
			out = append(out, b)
			continue
		}
		settled = true
		for _, u := range p.Spent[i].Uses {
			out = append(out, PermitBlock{N: u.N, Until: p.Now.Add(-u.Ago).Add(p.Span).UTC(), Holder: b.Holder})
		}
	}
	return out, settled
}

func total(uses []Use) (n int) {
	for _, u := range uses {
		n += u.N
	}
	return n
}
