package poll

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// KindAccepted is the kind of the one record which says that Cloudflare has accepted an API
// token of this store, and when. It stays for ever: a token that is refused later leaves a
// store whose data is served.
const KindAccepted = "accepted"

// TokenAccepted reports whether Cloudflare has ever accepted an API token of this store. A store of
// an earlier release has no record of it, but the zones or accounts that were listed.
func TokenAccepted(ctx context.Context, from recordReader) (bool, error) {
	for _, kind := range []string{KindAccepted, roster.KindAccount, roster.KindScope} {
		records, err := from.Records(ctx, kind)
		if err != nil {
			return false, fmt.Errorf("read whether Cloudflare has accepted a token: %w", err)
		}
		if len(records) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// acceptance records that Cloudflare has accepted a token, once for each store.
type acceptance struct {
	commit func(context.Context, store.Batch) error
	tell   func() // not nil
	known  bool   // the record is stored
}

// load reads whether the record is stored.
func (a *acceptance) load(ctx context.Context, from recordReader) error {
	records, err := from.Records(ctx, KindAccepted)
	if err != nil {
		return fmt.Errorf("read whether Cloudflare has accepted a token: %w", err)
	}
	a.known = len(records) > 0
	return nil
}

// accept is called when Cloudflare has answered a request with a token.
func (a *acceptance) accept(ctx context.Context, now bucket.Time) error {
	if a.known {
		return nil
	}
	value, err := json.Marshal(map[string]any{"at": now.Std()})
	if err != nil {
		return fmt.Errorf("encode when Cloudflare accepted a token: %w", err)
	}
	if err := a.commit(ctx, store.Batch{Records: []store.Record{{Kind: KindAccepted, Key: "first", Value: value}}}); err != nil {
		return err
	}
	a.known = true
	a.tell()
	return nil
}
