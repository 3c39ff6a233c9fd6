package poll_test

import (
	"context"

	"github.com/weir-metrics/weir/services/collector/internal/upstream"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// between stands between the loop and Cloudflare, and alters what passes. Nil
// functions alter nothing.
type between struct {
	upstream.Client
	query    func(q cloudflare.Query) error
	answer   func(*cloudflare.Response)
	zones    func([]cloudflare.Zone) []cloudflare.Zone
	accounts func([]cloudflare.Account) ([]cloudflare.Account, error)
	settings func(zone, node string, s *cloudflare.Settings)
	unread   func(zones []string) error // a request for settings
	sent     int                        // queries, those for settings included
}

func (b *between) Query(ctx context.Context, q cloudflare.Query) (*cloudflare.Response, error) {
	b.sent++
	if b.query != nil {
		if err := b.query(q); err != nil {
			return nil, err
		}
	}
	a, err := b.Client.Query(ctx, q)
	if err == nil && b.answer != nil {
		b.answer(a)
	}
	return a, err
}

func (b *between) Zones(ctx context.Context) ([]cloudflare.Zone, error) {
	zones, err := b.Client.Zones(ctx)
	if b.zones != nil {
		zones = b.zones(zones)
	}
	return zones, err
}

func (b *between) Accounts(ctx context.Context) ([]cloudflare.Account, error) {
	all, err := b.Client.Accounts(ctx)
	if b.accounts != nil && err == nil {
		return b.accounts(all)
	}
	return all, err
}

func (b *between) Settings(ctx context.Context, account string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error) {
	b.sent++
	if b.unread != nil {
		if err := b.unread(zones); err != nil {
			return nil, err
		}
	}
	all, err := b.Client.Settings(ctx, account, zones, nodes)
	if b.settings != nil {
		for zone, byNode := range all {
			for node, s := range byNode {
				b.settings(zone, node, &s)
				byNode[node] = s
			}
		}
	}
	return all, err
}

// stand puts b between the world's loop and its Cloudflare.
func (w *world) stand(b *between) {
	b.Client, w.config.Credentials[0].Client = w.config.Credentials[0].Client, b
}

// gaps counts the ledger's windows of one dataset and zone by reason.
func (w *world) gaps(dataset, zone string) map[ledger.Reason]int {
	w.t.Helper()
	records, err := w.store.Records(w.t.Context(), ledger.KindGap)
	if err != nil {
		w.t.Fatal(err)
	}
	gaps, bad := ledger.Gaps(records)
	if bad != nil {
		w.t.Fatal(bad)
	}
	out := map[ledger.Reason]int{}
	for _, g := range gaps {
		if g.Dataset == dataset && g.Scope.ID == zone {
			out[g.Reason] += int(g.Window.Len() / w.catalogue.Find(dataset).Size)
		}
	}
	return out
}

// entries reads the log's entries of a kind.
func (w *world) entries(kind bucket.Kind) (out []store.Entry) {
	w.t.Helper()
	for after := bucket.Revision(0); ; {
		page, err := w.store.ReadLog(w.t.Context(), after, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range page {
			after = e.Revision
			if e.Kind == kind {
				out = append(out, e)
			}
		}
		if len(page) == 0 {
			return out
		}
	}
}

// count is how many buckets of a dataset and zone are stored.
func (w *world) count(dataset, zone string) (n int) {
	for key := range w.stored() {
		if key.Dataset == dataset && key.Scope.ID == zone {
			n++
		}
	}
	return n
}
