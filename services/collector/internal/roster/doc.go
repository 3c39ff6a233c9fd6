// Package roster knows whom may be asked what: the zones and accounts that the
// credentials see and to which of them each belongs, the names that become their
// labels, and what each plan allows. It
// turns facts that the collector fetched into [Claim]s, the windows that ought
// to be final.
//
// The package is pure; the collector's loop brings the facts and stores the
// roster as records, from which a standby or a new leader reads it back.
package roster

import (
	"github.com/weir-metrics/weir/internal/bucket"
)

// State says whether a scope is being collected. The words are stored.
type State string

// The states.
const (
	Active   State = "active"
	Paused   State = "paused"   // Cloudflare says that it is paused
	Pending  State = "pending"  // added to Cloudflare, and not activated yet
	Inactive State = "inactive" // Cloudflare says moved, deactivated or another word than active
	Gone     State = "gone"     // no longer in any list
	Excluded State = "excluded"
)

// Scope is one zone or one account as Weir knows it. An account's AccountID and
// AccountName are its own, and its ZoneLabel is empty.
type Scope struct {
	bucket.Scope
	// Credential is the name of the one by which the scope is asked.
	Credential  string `json:"credential,omitempty"`
	Name        string `json:"name"`
	AccountID   string `json:"account_id"`
	AccountName string `json:"account_name"`
	// ZoneLabel and AccountLabel are what buckets of new windows carry.
	ZoneLabel    string `json:"zone_label"`
	AccountLabel string `json:"account_label"`
	// Earlier are the labels of buckets of windows that begin before the last one
	// of them ends, oldest first, without holes, at most [maxFormer]. See [Scope.Labels].
	Earlier []Label `json:"earlier,omitempty"`
	// Former are the labels that stored buckets of the scope may carry besides,
	// oldest first, at most [maxFormer].
	Former    []Label     `json:"former,omitempty"`
	Plan      string      `json:"plan"` // for people; nodes decide access
	State     State       `json:"state"`
	FirstSeen bucket.Time `json:"first_seen"`
	Start     bucket.Time `json:"start"` // windows from here on are wanted
	End       bucket.Time `json:"end"`   // windows that end after it are not; 0 while active
	// Away are the spans between an End and a return, oldest first, at most
	// [maxAway]: what passed in them is not wanted.
	Away []Away `json:"away,omitempty"`
	// Entitled is what the plan allows, from the settings node: nil where that was
	// never read. It is believed where Checked is not 0.
	Entitled *Entitlements `json:"-"`
	Checked  bucket.Time   `json:"-"` // when Entitled was read; 0: nothing may be asked before it is
	// Refusals learned from answers, by variant (dataset/variant).
	Refusals map[string]Refusal `json:"refusals,omitempty"`
}

// maxAway spans are remembered of a scope that comes and goes. One that is
// forgotten is wanted, which costs requests and no truth.
const maxAway = 64

// Away is a span in which a scope was not collected.
type Away struct {
	bucket.Window
	State State `json:"state"` // what it was then
}

// maxFormer labels are remembered of a scope that is renamed again and again.
const maxFormer = 8

// Refusal is a "no" that the settings had not announced. It may be wrong, so it
// is probed: after minutes, then less and less often.
type Refusal struct {
	Reason string      `json:"reason"`
	Until  bucket.Time `json:"until"`           // ask again then
	Tries  int         `json:"tries,omitempty"` // refused so many times in a row
	// What was refused; Field is empty where it was the node as a whole.
	Node  string `json:"node,omitempty"`
	Field string `json:"field,omitempty"`
}

// Roster is all scopes by identity.
type Roster map[bucket.Scope]*Scope

// Listed reports whether the scope was in the list that was seen last and is
// selected: what was open of it can still be asked.
func (s *Scope) Listed() bool { return s.State != Gone && s.State != Excluded }
