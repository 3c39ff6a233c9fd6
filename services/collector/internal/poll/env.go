package poll

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/trusted"
)

// env is what all parts of a term share. It does not hold the store.
type env struct {
	clock     clock.Clock
	trusted   *trusted.Clock
	catalogue *catalogue.Catalogue
	metrics   *Metrics
	trouble   *trouble.Board
	log       *slog.Logger
	quiet     *quiet.Log // for messages that may repeat at each attempt, or for each of many zones
	rng       *rand.Rand
}

// now is the trusted time after comparing the clocks again.
func (e *env) now(ctx context.Context) (bucket.Time, error) {
	at, err := e.trusted.Read(ctx)
	if err != nil {
		return 0, err
	}
	return bucket.TimeOf(at), nil
}

// sizeOf is the bucket size of a dataset; 0 if it is not in the catalogue.
func (e *env) sizeOf(dataset string) time.Duration {
	for i := range e.catalogue.Datasets {
		if e.catalogue.Datasets[i].Dataset == dataset {
			return e.catalogue.Datasets[i].Size
		}
	}
	return 0
}

// asksAnalytics reports whether any dataset about scopes of a kind is not a state, so that
// settings of these scopes are needed.
func (e *env) asksAnalytics(kind bucket.ScopeKind) bool {
	return slices.ContainsFunc(e.catalogue.Datasets, func(d catalogue.Dataset) bool { return d.ScopeKind == kind && !d.State })
}

// collects reports whether any dataset is about scopes of a kind.
func (e *env) collects(kind bucket.ScopeKind) bool {
	return slices.ContainsFunc(e.catalogue.Datasets, func(d catalogue.Dataset) bool { return d.ScopeKind == kind })
}
