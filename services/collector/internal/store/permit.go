package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// PermitBlock is a number of permits that were granted at once, as stored.
type PermitBlock struct {
	N      int       `json:"n"`
	Until  time.Time `json:"until"` // counts against the limit before this time
	Holder string    `json:"holder"`
	// ID is there until the block is settled. A build that does not know it drops
	// it, and the block counts for its full time.
	ID string `json:"id,omitempty"`
}

// EncodePermits is the stored form of blocks: JSON, so that people can read it.
func EncodePermits(blocks []PermitBlock) string {
	out, err := json.Marshal(blocks)
	if err != nil {
		panic(err) // only for years beyond 9999, which Validate refuses
	}
	return string(out)
}

// DecodePermits reads the stored form; none where nothing is stored yet.
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
			return nil, fmt.Errorf("%w: permits: a block of %d", ErrCorrupt, b.N)
		}
	}
	return blocks, nil
}

// Known are the blocks of the stored form, at the store's time. Where that cannot
// be read, all permits but one are taken to be in use for a span: the one brings
// a new form into the store. To grant none would leave the damage there for ever.
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

// Validate reports what is wrong with the request, if anything.
func (p *Permits) Validate() error {
	var errs []error
	if p.User == "" {
		errs = append(errs, errors.New("no user"))
	}
	if p.Want < 1 {
		errs = append(errs, fmt.Errorf("wants %d permits; at least 1", p.Want))
	}
	if p.Limit < 1 {
		errs = append(errs, fmt.Errorf("limit is %d; it must be at least 1", p.Limit))
	}
	if p.Span <= 0 {
		errs = append(errs, fmt.Errorf("span is %s; it must be above zero", p.Span))
	}
	// 9999 is the last year that the stored form can spell.
	if p.Now.IsZero() || p.UseBy.Before(p.Now) || p.UseBy.Add(p.Span).Year() > 9999 {
		errs = append(errs, fmt.Errorf("permits are to be used from %s until %s", p.Now, p.UseBy))
	}
	for _, spent := range p.Spent {
		if spent.Block == "" {
			errs = append(errs, errors.New("settles a block without a name"))
		}
		for _, u := range spent.Uses {
			if u.N < 1 || u.Ago < 0 {
				errs = append(errs, fmt.Errorf("settles block %q with %d permits used %s ago", spent.Block, u.N, u.Ago))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("reserve permits of user %q: %w", p.User, err)
	}
	return nil
}

// GrantAt is [Permits.Grant] by the store's clock, which shows now, unless the
// permits go by the caller's. Times in the answer are the caller's.
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

// farAhead is beyond the differences of clocks and settings between processes.
// What lapses before stays as it is, and an alert says that data is late.
const farAhead = 12 * time.Hour

// Grant decides how many permits can be given, from the blocks that are
// stored for the user, and returns the blocks to store instead; nil when they
// stay as they are.
//
// A block counts from its grant until UseBy + Span, or, once it is settled, until
// Span after its requests were over. So whichever span (t, t+Span] one looks at:
// every permit used in it was still counted when the last of them was granted,
// and together they were within the limit (G7).
func (p *Permits) Grant(blocks []PermitBlock) (Grant, []PermitBlock) {
	blocks, settled := p.settle(blocks)
	// A block that counts for hours was granted by a clock that was far ahead, or is
	// damaged. From now on it counts like one that is granted now: nothing that was
	// sent can count for longer, and what never lapses would stop all requests.
	latest := p.UseBy.Add(p.Span)
	for i := range blocks {
		if blocks[i].Until.After(latest.Add(farAhead)) {
			blocks[i].Until, settled = latest.UTC(), true
		}
	}
	// Lapsed blocks stay for another span: a process whose clock is a little
	// behind ours still counts them.
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
	// The limit may have been lowered since, so the first block to lapse need
	// not be enough.
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

// settle replaces the blocks that are settled by what was used of them. The result
// is the caller's to change.
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
