package exposer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/exposer/internal/access"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
	"github.com/weir-metrics/weir/services/exposer/internal/web"
)

// How often the names in the file of tokens are compared with what the collector knows, and the
// pause after it could not be asked.
const (
	compareNames      = 5 * time.Minute
	compareNamesAgain = 15 * time.Second
)

// compareTokens tells, until ctx ends, of names in the file of tokens that match nothing: a token
// with a name that is misspelt sees less than it should, and nothing else says so.
func (x *Exposer) compareTokens(ctx context.Context, tokens *access.Tokens, scopes web.Scopes) error {
	often := quiet.New(x.deps.Logger, time.Hour)
	for {
		pause := compareNamesAgain
		if all, err := scopes.Scopes(ctx); err == nil && len(all) > 0 { // none: the collector has not listed any yet
			pause = compareNames
			known := make([]selection.Owner, len(all))
			for i, s := range all {
				known[i] = selection.OwnerOf(s)
			}
			unmatched, n := tokens.Unmatched(known), 0
			for _, name := range slices.Sorted(maps.Keys(unmatched)) {
				n += len(unmatched[name])
				often.Warn(name, "a token names what no zone or account is called; it may be misspelt, or come later", "token", name, "names", unmatched[name])
			}
			x.meter.TokenNamesUnmatched(n)
		}
		if err := x.deps.Clock.WaitUntil(ctx, x.deps.Clock.Now().Add(pause)); err != nil {
			return nil //nolint:nilerr // it is the end of ctx
		}
	}
}
