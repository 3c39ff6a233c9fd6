// Package roster holds the zones and accounts that are collected: the credential that
// each belongs to, its labels, and what its plan allows. From these facts it computes
// [Claim]s, the windows that should be final.
//
// The package is pure. The collector's loop fetches the facts from Cloudflare and stores
// the roster as records, from which a standby or a new leader reads it.
package roster

import (
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
)

// State is whether a scope is collected, and why not. The values are stored.
type State string

// The states.
const (
	Active   State = "active"
	Paused   State = "paused"   // paused at Cloudflare
	Pending  State = "pending"  // added to Cloudflare, and not activated yet
	Inactive State = "inactive" // moved, deactivated or in another state that is not active at Cloudflare
	Gone     State = "gone"     // no longer in any list
	Excluded State = "excluded"
)

// Scope is one zone or one account as Weir knows it. An account's AccountID and
// AccountName are its own, and its ZoneLabel is empty.
type Scope struct {
	bucket.Scope
	// Credential is the name of the credential that the scope belongs to.
	Credential  string `json:"credential,omitempty"`
	Name        string `json:"name"`
	AccountID   string `json:"account_id"`
	AccountName string `json:"account_name"`
	// ZoneLabel and AccountLabel are the labels of buckets of new windows.
	ZoneLabel    string `json:"zone_label"`
	AccountLabel string `json:"account_label"`
	// Earlier are the labels of buckets of older windows, oldest first, without
	// holes, at most [maxFormer]. See [Scope.Labels].
	Earlier []Label `json:"earlier,omitempty"`
	// Former are further labels that stored buckets of the scope may have, oldest
	// first, at most [maxFormer].
	Former    []Label     `json:"former,omitempty"`
	Plan      string      `json:"plan"` // for people; access depends on Entitled
	State     State       `json:"state"`
	FirstSeen bucket.Time `json:"first_seen"`
	Created   bucket.Time `json:"created,omitempty"` // at Cloudflare; 0: not known
	Start     bucket.Time `json:"start"`             // windows from here on are wanted
	End       bucket.Time `json:"end"`               // windows that end after it are not wanted; 0 while active
	// Away are the spans between an End and a return, oldest first, at most
	// [maxAway]. Windows in them are not wanted.
	Away []Away `json:"away,omitempty"`
	// Entitled is what the plan allows, from the settings node; nil if that was never
	// read. It is valid if Checked is not 0.
	Entitled *Entitlements `json:"-"`
	Checked  bucket.Time   `json:"-"` // when Entitled was read; 0: it must be read before any query
	// Obstacle is why Entitled could not be read, while Checked is 0. Zero: no attempt failed.
	Obstacle Obstacle `json:"obstacle,omitzero"`
	// Refusals by Cloudflare's responses, by variant (dataset/variant).
	Refusals map[string]Refusal `json:"refusals,omitempty"`
}

// Obstacle is why the settings of a scope cannot be read, so that no window of it is requested.
type Obstacle struct {
	Reason   ledger.Reason `json:"reason"`
	Detail   string        `json:"detail,omitempty"`
	Attempts int           `json:"attempts,omitempty"`
	Next     bucket.Time   `json:"next,omitempty"` // next attempt
}

// maxAway limits the remembered spans of a scope. The windows of a forgotten span are
// wanted again, which costs requests but does no harm.
const maxAway = 64

// Away is a span in which a scope was not collected.
type Away struct {
	bucket.Window
	State State `json:"state"` // during the span
}

// maxFormer limits the remembered labels of a scope.
const maxFormer = 8

// Refusal is a refusal by a response although the settings allow the variant. It may be
// wrong, so the variant is retried: after minutes, then less often.
type Refusal struct {
	Reason string      `json:"reason"`
	Until  bucket.Time `json:"until"`           // retried from then on
	Tries  int         `json:"tries,omitempty"` // number of refusals in a row
	// What was refused; Field is empty if the whole node was.
	Node  string `json:"node,omitempty"`
	Field string `json:"field,omitempty"`
}

// Roster has all scopes by identity.
type Roster map[bucket.Scope]*Scope

// Listed reports whether the scope is in the newest list and selected, so that its open
// windows can still be queried.
func (s *Scope) Listed() bool { return s.State != Gone && s.State != Excluded }
