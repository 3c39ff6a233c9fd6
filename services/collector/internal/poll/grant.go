package poll

import (
	"context"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// received takes a response, and grants what it completes.
func (s *settings) received(ctx context.Context, of *line, l *list, ask plan.Ask, response map[string]map[string]cloudflare.Settings) error {
	l.granting, l.suspects, of.outage = true, nil, upstream.Outage{}
	now := s.trusted.Second()
	var complete []*roster.Scope
	for _, id := range ask.Scopes {
		sc := s.books.roster[id]
		byNode, visible := response[id.ID]
		if !visible {
			s.quiet.Log(ctx, s.leaveUnread(settingsDenied, nil, id), id.ID, id.Kind.String()+" is known, but the analytics API does not show it; does the token have "+permission(id.Kind)+"?", inLog(id), "name", sc.Name)
			continue
		}
		if all := s.add(now, id, ask.Nodes, byNode); all.has(s.nodes(id.Kind)) {
			delete(s.unread, id)
			delete(s.partial, id)
			s.grant(now, sc, all)
			complete = append(complete, sc)
		}
	}
	return s.save(ctx, s.books.contents, complete)
}

// add records the settings of some nodes of a scope.
func (s *settings) add(now bucket.Time, id bucket.Scope, asked []string, byNode map[string]cloudflare.Settings) *partial {
	h := s.partial[id]
	if h == nil || now.Sub(h.at) >= partialFor {
		h = &partial{at: now, nodes: map[string]*roster.Node{}}
		s.partial[id] = h
	}
	for _, name := range asked {
		h.nodes[name] = nil
	}
	for name, n := range byNode {
		h.nodes[name] = &roster.Node{
			Enabled: n.Enabled, MaxDuration: n.MaxDuration, MaxFields: n.MaxFields,
			MaxPageSize: n.MaxPageSize, NotOlderThan: n.NotOlderThan, Fields: fields(n.Available),
		}
	}
	return h
}

func (h *partial) has(nodes []string) bool {
	return !slices.ContainsFunc(nodes, func(n string) bool { _, known := h.nodes[n]; return !known })
}

// grant records a scope's entitlements, and logs once what is not collected.
func (s *settings) grant(now bucket.Time, sc *roster.Scope, all *partial) {
	entitled := make(map[string]roster.Node, len(all.nodes))
	for name, n := range all.nodes {
		if n != nil {
			entitled[name] = *n
		}
	}
	first := sc.Checked == 0
	sc.Entitle(now, s.books.contents.Of(entitled))
	if !first {
		return
	}
	for _, c := range (roster.Roster{sc.Scope: sc}).Claims(now, s.catalogue.Datasets, roster.Terms{}) {
		if c.Variant == nil {
			s.quiet.Info(c.Dataset.Dataset, "dataset is not collected for "+sc.Kind.String(), "dataset", c.Dataset.Dataset, inLog(sc.Scope), "name", sc.Name, "reason", c.Refused)
			continue
		}
		s.log.Debug("dataset is collected for "+sc.Kind.String(), "dataset", c.Dataset.Dataset, inLog(sc.Scope), "name", sc.Name, "variant", c.Variant.Name)
	}
}

// fields are the names that GraphQL allows. A field with another name cannot be requested, and
// a database may reject a record that contains it.
func fields(available []string) []string {
	const most = 4000 // of a node; Cloudflare's largest has some hundreds
	out := slices.DeleteFunc(slices.Clone(available), func(name string) bool { return !isName(name) })
	return out[:min(len(out), most)]
}

func isName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_', i > 0 && '0' <= c && c <= '9':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 128
}
