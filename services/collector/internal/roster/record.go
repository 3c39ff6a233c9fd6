package roster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// The kinds of the records of scopes. Accounts have their own kind, so that builds that
// know only zones do not read them.
const (
	KindScope   = "scope" // zones
	KindAccount = "account"
)

// kindOf returns the record kind of scopes of a kind.
func kindOf(k bucket.ScopeKind) string {
	if k == bucket.Account {
		return KindAccount
	}
	return KindScope
}

// Key returns the key of the scope's record in the store.
func (s *Scope) Key() string { return fmt.Sprintf("%d/%s", s.Kind, s.ID) }

// record is the stored form of a scope. Earlier builds stored the entitlements in it, as
// nodes and checked. They read a record of this build as that of a scope whose settings
// were read once and must be read again.
type record struct {
	fields
	Entitled   string      `json:"entitled,omitempty"` // key of the record of kind [KindEntitlements]
	EntitledAt bucket.Time `json:"entitled_at,omitempty"`

	Nodes   map[string]Node `json:"nodes,omitzero"`
	Checked bucket.Time     `json:"checked"`
}

type fields Scope

// DefaultCredential is the name of the credential if no list is configured. Records omit
// it, like those of builds that knew only one.
const DefaultCredential = "default"

func (s *Scope) record() store.Record {
	r := record{fields: fields(*s)}
	if r.Credential == DefaultCredential {
		r.Credential = ""
	}
	if s.Entitled != nil {
		r.Nodes = map[string]Node{}
		if r.Entitled = s.Entitled.hash; r.Entitled != "" {
			r.EntitledAt = s.Checked
		}
	}
	return store.Record{Kind: kindOf(s.Kind), Key: s.Key(), Value: encode(r)}
}

// Stored is a roster as read from the store.
type Stored struct {
	Roster   Roster
	Contents *Contents
	// Old are scopes whose records an earlier build wrote. They should be rewritten.
	Old []*Scope
	// Missing are scopes whose stored entitlements are missing or unreadable, so that
	// their settings must be read again.
	Missing []*Scope
	// Unreadable are records of the kinds of scopes, Damaged of [KindEntitlements].
	Unreadable, Damaged []store.Unreadable
}

// Load reads the records of scopes and then of entitlements. In this order, the
// entitlements that the scopes refer to are present even while a leader writes.
func Load(ctx context.Context, from interface {
	Records(ctx context.Context, kind string) ([]store.Record, error)
},
) (Stored, error) {
	var scopes []store.Record
	for _, kind := range []string{KindScope, KindAccount} {
		records, err := from.Records(ctx, kind)
		if err != nil {
			return Stored{}, fmt.Errorf("read records of kind %s: %w", kind, err)
		}
		scopes = append(scopes, records...)
	}
	contents, err := from.Records(ctx, KindEntitlements)
	if err != nil {
		return Stored{}, fmt.Errorf("read entitlements: %w", err)
	}
	return Read(scopes, contents), nil
}

// Report passes the unreadable records to the register.
func (o *Stored) Report(to interface {
	Records(kind string, bad []store.Unreadable)
},
) {
	for _, kind := range []string{KindScope, KindAccount} {
		to.Records(kind, Of(kind, o.Unreadable))
	}
	to.Records(KindEntitlements, o.Damaged)
}

// Of returns the unreadable records of one kind.
func Of(kind string, unreadable []store.Unreadable) (out []store.Unreadable) {
	for _, u := range unreadable {
		if u.Kind == kind {
			out = append(out, u)
		}
	}
	return out
}

// Read decodes the records of scopes and of [KindEntitlements]. An unreadable record
// affects only itself: a scope that Cloudflare still lists is discovered again as a new
// one, and its record is rewritten.
func Read(scopes, contents []store.Record) Stored {
	out := Stored{Roster: make(Roster, len(scopes)), Contents: NewContents()}
	out.Damaged = out.Contents.read(contents)
	for _, r := range scopes {
		s, err := out.decode(r)
		if err != nil {
			out.Unreadable = append(out.Unreadable, store.Unreadable{Record: r, Err: err})
			continue
		}
		out.Roster[s.Scope] = s
	}
	return out
}

func (o *Stored) decode(stored store.Record) (*Scope, error) {
	var r record
	if err := json.Unmarshal(stored.Value, &r); err != nil {
		return nil, err
	}
	s := new(Scope)
	*s = Scope(r.fields)
	s.Credential = cmp.Or(s.Credential, DefaultCredential)
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if s.Key() != stored.Key || kindOf(s.Kind) != stored.Kind {
		return nil, fmt.Errorf("it is of %s", s.Scope)
	}
	switch of := o.Contents.byHash[r.Entitled]; {
	case of != nil:
		s.Entitled, s.Checked = of.Entitlements, r.EntitledAt
	case r.Entitled != "":
		s.Entitled = forgotten()
		o.Missing = append(o.Missing, s)
	case len(r.Nodes) > 0 || r.Checked != 0:
		s.Entitled, s.Checked = o.Contents.Of(r.Nodes), r.Checked
		o.Old = append(o.Old, s)
	case r.Nodes != nil:
		s.Entitled = forgotten()
	}
	return s, nil
}
