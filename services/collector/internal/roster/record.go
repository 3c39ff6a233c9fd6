package roster

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// KindScope is the kind of the records of scopes.
const KindScope = "scope"

// Key is that of the scope's record in the store.
func (s *Scope) Key() string { return fmt.Sprintf("%d/%s", s.Kind, s.ID) }

// record is a scope as it is stored. Builds before this one kept the entitlements
// in it, as nodes and checked; they read such a record as that of a scope whose
// settings are to be read, and were to be had before.
type record struct {
	fields
	Entitled   string      `json:"entitled,omitempty"` // key of the record of kind [KindEntitlements]
	EntitledAt bucket.Time `json:"entitled_at,omitempty"`

	Nodes   map[string]Node `json:"nodes,omitzero"`
	Checked bucket.Time     `json:"checked"`
}

type fields Scope

// DefaultCredential is the name of the credential where no other is configured. It
// is left out of records, as in those of builds that knew only one.
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
	return store.Record{Kind: KindScope, Key: s.Key(), Value: encode(r)}
}

// Stored is what the store knows of a roster.
type Stored struct {
	Roster   Roster
	Contents *Contents
	// Old are scopes whose records an earlier build wrote: they should be written
	// again.
	Old []*Scope
	// Missing are scopes whose entitlements should be stored and cannot be read, so
	// that their settings have to be.
	Missing []*Scope
	// Unreadable are records of kind [KindScope], Damaged of [KindEntitlements].
	Unreadable, Damaged []store.Unreadable
}

// Read decodes the records of kind [KindScope] and [KindEntitlements]. Those that
// cannot be read cost themselves: a zone that Cloudflare still lists is found again,
// as a new one, and its record written anew. Where both are read while a leader
// writes, the scopes must be read first.
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
	if s.Key() != stored.Key {
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
