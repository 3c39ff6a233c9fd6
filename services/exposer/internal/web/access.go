package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// Why a request is denied, as the meter counts it.
const (
	deniedUnknown = "unauthenticated" // no token, or one that is not in the file
	deniedOther   = "forbidden"       // what the token may not read
)

type limitKey struct{}

// limitOf is what the client of a request may read.
func limitOf(r *http.Request) selection.Selection {
	only, _ := r.Context().Value(limitKey{}).(selection.Selection)
	return only
}

// admit passes on the requests with a token of the file, together with what it may read.
func (h *handler) admit(next http.Handler) http.Handler {
	if h.Tokens == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/-/healthy" || r.URL.Path == "/-/ready" { // of probes, which have no token
			next.ServeHTTP(w, r)
			return
		}
		const scheme = "bearer "
		given := r.Header.Get("Authorization")
		token, is := "", len(given) > len(scheme) && strings.EqualFold(given[:len(scheme)], scheme)
		if is {
			token = strings.TrimSpace(given[len(scheme):])
		}
		client, known := h.Tokens.Client(token)
		if !is || !known {
			h.Meter.Denied(deniedUnknown)
			w.Header().Set("WWW-Authenticate", "Bearer")
			text(w, http.StatusUnauthorized, "this page needs a bearer token of the file that WEIR_EXPOSER_TOKENS_FILE names")
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), limitKey{}, client.Only)))
	})
}

// forbid answers that a token may not read something. The text says nothing about whether it
// exists.
func (h *handler) forbid(w http.ResponseWriter, why string) int {
	h.Meter.Denied(deniedOther)
	text(w, http.StatusForbidden, why)
	return http.StatusForbidden
}

// fault is why a selection is not answered.
type fault struct {
	code int
	text string
}

// judge returns the fault of a selection of which these owners have samples; nil if there is
// none. A zone or account is asked for by the names of its labels; one that has no samples now
// must be known to the collector, as for a backfill.
func (h *handler) judge(ctx context.Context, asked selection.Set, limit selection.Selection, owners []selection.Owner) *fault {
	unmatched := asked.Unmatched(owners)
	if len(unmatched) == 0 && len(owners) > 0 || len(asked.Accounts)+len(asked.Zones) == 0 && limit == selection.Everything {
		return nil
	}
	known, err := h.owners(ctx, limit)
	if err != nil {
		if len(owners) > 0 && limit == selection.Everything {
			return nil // what cannot be asked is no evidence against a name
		}
		return &fault{http.StatusServiceUnavailable, "there are no samples of some of the zones and accounts, and the collector cannot be asked whether they exist"}
	}
	for _, name := range unmatched {
		switch {
		case len(asked.Of(name).Unmatched(known)) == 0: // it has no samples now
		case limit != selection.Everything:
			return &fault{http.StatusForbidden, fmt.Sprintf("parameter %s is %q, which is not among the zones and accounts that this token may read", name.Kind, bucket.Clip(name.Name))}
		case name.Kind == bucket.Account:
			return &fault{http.StatusBadRequest, fmt.Sprintf("parameter account is %q%s; it must be the value of the label account of an account that the collector knows", bucket.Clip(name.Name), h.accountOf(ctx, name.Name))}
		default:
			return &fault{http.StatusBadRequest, fmt.Sprintf("parameter zone is %q; it must be the value of the label zone, or the id, of a zone that the collector knows", bucket.Clip(name.Name))}
		}
	}
	if len(owners) > 0 {
		return nil
	}
	match := asked.Selection().Match()
	switch {
	case slices.ContainsFunc(known, match.Has): // none of it has samples now
		return nil
	case len(asked.Accounts)+len(asked.Zones) == 0:
		return &fault{http.StatusNotFound, "nothing of what this token may read has been collected yet"}
	}
	return &fault{http.StatusBadRequest, "the parameters account and zone have nothing in common: no such zone is in such an account"}
}

// accountOf says whose id a name is, for a client that may read everything; "" if it is none.
func (h *handler) accountOf(ctx context.Context, id string) string {
	scopes, err := h.Scopes.Scopes(ctx)
	if err != nil {
		return ""
	}
	for _, s := range scopes {
		if s.GetAccountId() == id && s.GetAccountLabel() != "" {
			return fmt.Sprintf(", which is the id of the account %q", bucket.Clip(s.GetAccountLabel()))
		}
	}
	return ""
}

// owners are the zones and accounts that the collector knows, as far as a client may read them.
func (h *handler) owners(ctx context.Context, limit selection.Selection) (known []selection.Owner, err error) {
	if h.Scopes == nil {
		return nil, errNotAsked
	}
	scopes, err := h.Scopes.Scopes(ctx)
	if err != nil {
		return nil, err
	}
	match := limit.Match()
	for _, s := range scopes {
		if of := selection.OwnerOf(s); match.Has(of) {
			known = append(known, of)
		}
	}
	return known, nil
}

// Scopes returns what a collector knows; package inquiry implements it.
type Scopes interface {
	Scopes(ctx context.Context) ([]*bucketv1.ScopeInfo, error)
}
