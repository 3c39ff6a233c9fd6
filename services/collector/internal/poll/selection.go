package poll

import (
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// Selection is the windows that a request is about: those of the datasets and scopes that
// lie wholly in a range. Empty lists mean all that are collected.
type Selection struct {
	Datasets []string
	Scopes   []bucket.Scope
	Window   bucket.Window
}

// Asked is who requests something, and why.
type Asked struct {
	Requester, Reason string
}

// claims are the claims that a selection touches.
func (s *Selection) claims(all []roster.Claim) []roster.Claim {
	return slices.DeleteFunc(all, func(c roster.Claim) bool {
		return len(s.Datasets) > 0 && !slices.Contains(s.Datasets, c.Dataset.Dataset) || len(s.Scopes) > 0 && !slices.Contains(s.Scopes, c.Scope.Scope)
	})
}

// event is the audit event of a request about a selection.
func (s *Selection) event(action bucketv1.AuditEvent_Action, by Asked) *bucketv1.AuditEvent {
	e := &bucketv1.AuditEvent{
		Action: action, Actor: by.Requester, Reason: by.Reason, Datasets: s.Datasets,
		StartUnixSeconds: int64(s.Window.Start), EndUnixSeconds: int64(s.Window.End),
	}
	for _, sc := range s.Scopes {
		e.Scopes = append(e.Scopes, wire.ProtoScope(sc))
	}
	return e
}
