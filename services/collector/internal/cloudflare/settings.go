package cloudflare

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Settings is what a zone or account may query of one node.
type Settings struct {
	Enabled      bool
	MaxDuration  time.Duration // widest window of one selection
	MaxFields    int
	MaxPageSize  int           // largest limit
	NotOlderThan time.Duration // maximum age of the queried data
	// Available are the fields, flattened: "sum_requests". Listed fields can still be
	// refused.
	Available []string
}

// Settings queries the limits of nodes, by zone tag (or account tag if zones is empty) and
// node. An absent scope is not visible; an absent node has no settings there. With
// accountID and zones, the zones are nested below the account. One request; at most
// [MaxZones] zones.
func (c *Client) Settings(ctx context.Context, accountID string, zones, nodes []string) (map[string]map[string]Settings, error) {
	// The scopes are those of any query; what is selected in them differs.
	q := Query{AccountID: accountID, Zones: zones}
	for i, n := range nodes {
		if !namePattern.MatchString(n) || slices.Contains(nodes[:i], n) {
			return nil, &Error{Class: Ours, Message: fmt.Sprintf("settings of node %q: it must be a name that occurs once", n)}
		}
	}
	if len(nodes) == 0 {
		return nil, &Error{Class: Ours, Message: "settings: no node is named"}
	}
	if err := q.checkScopes(); err != nil {
		return nil, &Error{Class: Ours, Message: err.Error()}
	}
	r, err := c.graphql(ctx, q.settingsDocument(nodes), c.settingsBounds(&q, nodes))
	if err != nil {
		return nil, err
	}
	s, err := r.data(&q)
	if err != nil {
		return nil, err
	}
	byTag, account, err := s.byTag(&q)
	if err != nil {
		return nil, r.problem(BadResponse, err.Error())
	}
	if len(zones) == 0 {
		byTag = map[string]map[string]any{}
		if account != nil {
			byTag[accountID] = account
		}
	}
	out := make(map[string]map[string]Settings, len(byTag))
	for tag, scope := range byTag {
		if out[tag], err = settingsOf(scope, nodes); err != nil {
			e := r.problem(BadResponse, fmt.Sprintf("%s: %v", tag, err))
			e.Zone = tag
			return nil, e
		}
	}
	return out, nil
}

func (q *Query) settingsDocument(nodes []string) string {
	var b strings.Builder
	b.WriteString("{viewer{")
	// Writing names cannot fail.
	_ = q.scope(&b, func() error {
		b.WriteString(" settings{")
		for _, n := range nodes {
			b.WriteString(n + "{enabled maxDuration maxNumberOfFields maxPageSize notOlderThan availableFields} ")
		}
		b.WriteByte('}')
		return nil
	})
	b.WriteString("}}")
	return b.String()
}

func settingsOf(scope map[string]any, nodes []string) (map[string]Settings, error) {
	object, ok := scope["settings"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("settings is missing or null")
	}
	out := make(map[string]Settings, len(nodes))
	for _, n := range nodes {
		raw, ok := object[n].(map[string]any)
		if !ok {
			if v, present := object[n]; present && v == nil {
				continue
			}
			return nil, fmt.Errorf("settings of %s are missing or not an object", n)
		}
		var s Settings
		if s.Enabled, ok = raw["enabled"].(bool); !ok {
			return nil, fmt.Errorf("settings of %s: enabled is missing or not a boolean", n)
		}
		var err error
		whole := func(field string) int64 {
			num, _ := raw[field].(json.Number)
			v, e := num.Int64()
			if err == nil && (e != nil || v < 0) {
				err = fmt.Errorf("settings of %s: %s is %q; it must be a whole number, not negative", n, field, bucket.Clip(num.String()))
			}
			return v
		}
		s.MaxDuration, s.NotOlderThan = seconds(whole("maxDuration")), seconds(whole("notOlderThan"))
		s.MaxFields, s.MaxPageSize = int(whole("maxNumberOfFields")), int(whole("maxPageSize"))
		if err != nil {
			return nil, err
		}
		list, _ := raw["availableFields"].([]any)
		for _, f := range list {
			if name, ok := f.(string); ok {
				s.Available = append(s.Available, name)
			}
		}
		out[n] = s
	}
	return out, nil
}

// seconds converts without overflow: "for ever" has been written as a very
// large number.
func seconds(n int64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/int64(time.Second))) * time.Second
}
