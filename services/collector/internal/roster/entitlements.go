package roster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// KindEntitlements is the kind of the records of entitlements. Their key is the hash of
// the content, so another encoding of [Node] needs another kind.
const KindEntitlements = "entitlements"

// Node is what a scope's plan allows of one GraphQL node.
type Node struct {
	Enabled      bool          `json:"enabled"`
	MaxDuration  time.Duration `json:"max_duration"`
	MaxFields    int           `json:"max_fields"`
	MaxPageSize  int           `json:"max_page_size"`
	NotOlderThan time.Duration `json:"not_older_than"`
	Fields       []string      `json:"fields,omitempty"`
}

// Entitlements are what a plan allows, by GraphQL node. Scopes with the same content
// share one immutable value, since there are few plans and many zones. Nil allows
// nothing. A value belongs to the goroutine of its roster.
type Entitlements struct {
	nodes map[string]Node
	hash  string // empty: the content was lost
	// grants caches the result for each variant, which every claim needs.
	grants map[*catalogue.Variant]grant
}

// Node returns what is allowed of a node.
func (e *Entitlements) Node(name string) Node {
	if e == nil {
		return Node{}
	}
	return e.nodes[name]
}

// granted returns whether the plan allows a variant, regardless of refusals.
func (e *Entitlements) granted(d *catalogue.Dataset, v *catalogue.Variant) grant {
	if e == nil {
		return Node{}.grant(d, v)
	}
	g, known := e.grants[v]
	if !known {
		g = e.nodes[v.Node].grant(d, v)
		e.grants[v] = g
	}
	return g
}

// forgotten represents entitlements that were read once and are lost.
func forgotten() *Entitlements {
	return &Entitlements{grants: map[*catalogue.Variant]grant{}}
}

// Contents has the distinct entitlements of a roster, each once, in memory and in
// the store.
type Contents struct {
	byHash map[string]*content
}

type content struct {
	*Entitlements
	stored bool
	idle   bool // no scope referred to it at the last [Contents.Drop]
}

// NewContents returns empty contents.
func NewContents() *Contents { return &Contents{byHash: map[string]*content{}} }

// Of returns the shared value for these nodes. The order of their fields does not matter.
func (c *Contents) Of(nodes map[string]Node) *Entitlements {
	own := make(map[string]Node, len(nodes))
	for name, n := range nodes {
		n.Fields = slices.Compact(slices.Sorted(slices.Values(n.Fields)))
		own[name] = n
	}
	hash := hashOf(own)
	if known := c.byHash[hash]; known != nil {
		known.idle = false
		return known.Entitlements
	}
	return c.add(own, hash).Entitlements
}

func (c *Contents) add(nodes map[string]Node, hash string) *content {
	added := &content{Entitlements: &Entitlements{nodes: nodes, hash: hash, grants: map[*catalogue.Variant]grant{}}}
	c.byHash[hash] = added
	return added
}

// Records returns the records of contents that the scopes refer to and that are not
// stored yet, followed by the records of the scopes. They must be in one batch, so that
// no stored scope refers to content that is not stored.
func (c *Contents) Records(scopes ...*Scope) (out []store.Record) {
	for _, s := range scopes {
		if s.Entitled == nil {
			continue
		}
		if of := c.byHash[s.Entitled.hash]; of != nil && !of.stored {
			of.stored = true
			out = append(out, store.Record{Kind: KindEntitlements, Key: of.hash, Value: encode(of.nodes)})
		}
	}
	for _, s := range scopes {
		out = append(out, s.record())
	}
	return out
}

// Drop removes contents to which no scope referred at this and the previous call, and
// returns the records that delete them. The records of all scopes must have been written
// before. Calls should be minutes apart, so that a process that reads scopes and then
// contents, while a leader writes, finds the contents of those scopes.
func (c *Contents) Drop(r Roster) (out []store.Record) {
	used := make(map[string]bool, len(c.byHash))
	for _, s := range r {
		if s.Entitled != nil {
			used[s.Entitled.hash] = true
		}
	}
	for _, hash := range slices.Sorted(maps.Keys(c.byHash)) {
		of := c.byHash[hash]
		switch {
		case used[hash]:
			of.idle = false
		case !of.idle:
			of.idle = true
		default:
			delete(c.byHash, hash)
			if of.stored {
				out = append(out, store.Record{Kind: KindEntitlements, Key: hash})
			}
		}
	}
	return out
}

// read decodes the records of kind [KindEntitlements].
func (c *Contents) read(records []store.Record) (unreadable []store.Unreadable) {
	for _, r := range records {
		nodes := map[string]Node{}
		err := json.Unmarshal(r.Value, &nodes)
		if err == nil && nodes == nil {
			err = errors.New("it is null; it must be an object")
		}
		if err == nil {
			if is := hashOf(nodes); is != r.Key {
				err = fmt.Errorf("its content has the hash %s; it must be that of its key, %.80q", is, r.Key)
			}
		}
		if err != nil {
			unreadable = append(unreadable, store.Unreadable{Record: r, Err: err})
			continue
		}
		c.add(nodes, r.Key).stored = true
	}
	return unreadable
}

func hashOf(nodes map[string]Node) string {
	sum := sha256.Sum256(encode(nodes))
	return hex.EncodeToString(sum[:])
}

// encode is deterministic.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain strings and numbers always encode
	}
	return text
}
