package cloudflare

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"sync"
)

// rulePhases are the phases whose rules make security events.
var rulePhases = []string{"http_request_firewall_custom", "http_request_firewall_managed", "http_ratelimit"}

// mostRulesets are kept. Zones share the managed ones.
const mostRulesets = 1000

// rulesets are the rules of rulesets that were read before. A version of a ruleset never
// changes, so each is read once. The zero value is empty. Safe for concurrent use.
type rulesets struct {
	mu   sync.Mutex
	read map[rulesetVersion][]rule
}

type rulesetVersion struct{ id, version string }

type ruleset struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Phase   string `json:"phase"`
	Version string `json:"version"`
	Rules   []rule `json:"rules"`
}

type rule struct {
	ID          string `json:"id"`
	Description string `json:"description"`
	Action      string `json:"action"`
}

func (s *rulesets) find(of rulesetVersion) ([]rule, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rules, ok := s.read[of]
	return rules, ok
}

func (s *rulesets) keep(of rulesetVersion, rules []rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read == nil || len(s.read) >= mostRulesets {
		s.read = map[rulesetVersion][]rule{} // versions that are in use are read again
	}
	s.read[of] = rules
}

// readRules reads the rules of a zone's rulesets. Usually that is one request, for the list of
// rulesets with their versions.
func readRules(ctx context.Context, r *stateReader) error {
	all, err := list(ctx, r, url.Values{}, statesPerPage, func(s *ruleset) string { return s.ID }, "rulesets")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range all {
		set := &all[i]
		if !slices.Contains(rulePhases, set.Phase) {
			continue
		}
		rules, err := r.rulesOf(ctx, set)
		if absent(err) {
			continue // deleted since it was listed
		}
		if err != nil {
			return fmt.Errorf("ruleset %s: %w", set.ID, err)
		}
		for _, one := range rules {
			// The rule that executes another ruleset makes no events.
			if one.Action == "execute" || one.ID == "" || seen[one.ID] {
				continue
			}
			seen[one.ID] = true
			r.add(map[string]string{"id": one.ID, "name": one.Description, "ruleset": set.Name, "action": one.Action}, map[string]any{"present": whole(1)})
		}
	}
	return nil
}

func (r *stateReader) rulesOf(ctx context.Context, set *ruleset) ([]rule, error) {
	of := rulesetVersion{set.ID, set.Version}
	if rules, known := r.rulesets.find(of); known && set.Version != "" {
		return rules, nil
	}
	if err := r.call(ctx); err != nil {
		return nil, err
	}
	got, _, err := get[ruleset](ctx, r.Client, r.base.JoinPath(r.path("rulesets", set.ID)...), statesPerPage)
	if err != nil {
		return nil, err
	}
	if got.Version == set.Version { // else it was changed since it was listed
		r.rulesets.keep(of, got.Rules)
	}
	return got.Rules, nil
}
