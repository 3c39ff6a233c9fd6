package cfsim

import (
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// Entitlement is what a plan may ask of a dataset. The settings node shows it
// and the checks enforce it: one value for both.
type Entitlement struct {
	Enabled         bool
	NotOlderThan    time.Duration
	MaxDuration     time.Duration
	MaxPageSize     int
	MaxFields       int
	AvailableFields []string // flattened names; see [schema.Dataset.Flat]
}

const day = 24 * time.Hour

// span is history and widest window of one plan; zero is "not entitled".
type span struct{ history, window time.Duration }

// The plans' spans, in the order of planOrder.
var (
	adaptive2026 = [4]span{{31 * day, 30 * day}, {31 * day, 30 * day}, {31 * day, 30 * day}, {90 * day, 31 * day}}
	adaptiveOld  = [4]span{{8 * day, day}, {8 * day, day}, {31 * day, 3 * day}, {90 * day, 31 * day}}

	spans = map[string][4]span{
		"httpRequests1mGroups": {{}, {day, day}, {3 * day, day}, {7 * day, day}},
		// Three days are 73 hours: the bucket that is three days old may be asked.
		"httpRequests1hGroups": {{73 * time.Hour, 3 * day}, {7 * day, 7 * day}, {30 * day, 30 * day}, {90 * day, 90 * day}},
		"httpRequests1dGroups": sameForAll(span{365*day + time.Hour, 365*day + time.Hour}),

		"firewallEventsAdaptiveGroups":        {{}, {31 * day, 30 * day}, {31 * day, 30 * day}, {31 * day, 30 * day}},
		"loadBalancingRequestsAdaptiveGroups": {{}, {3 * day, day}, {30 * day, 3 * day}, {30 * day, 3 * day}},
		"loadBalancingRequestsAdaptive":       {{}, {3 * day, day}, {30 * day, 3 * day}, {30 * day, 3 * day}},
		"healthCheckEventsAdaptiveGroups":     {{}, {3 * day, day}, {30 * day, 3 * day}, {90 * day, 3 * day}},
		"logpushHealthAdaptiveGroups":         onlyEnterprise(span{31 * day, 7 * day}),
		"waitingRoomAnalyticsAdaptiveGroups":  {{}, {}, {31 * day, 30 * day}, {31 * day, 30 * day}},
		"workersInvocationsAdaptive":          sameForAll(span{90 * day, 31 * day}),
		"r2OperationsAdaptiveGroups":          sameForAll(span{90 * day, 32 * day}),
		"r2StorageAdaptiveGroups":             sameForAll(span{90 * day, 32 * day}),
		"dnsAnalyticsAdaptiveGroups":          {{31 * day, 30 * day}, {31 * day, 30 * day}, {31 * day, 30 * day}, {62 * day, 31 * day}},
	}
)

func sameForAll(s span) [4]span     { return [4]span{s, s, s, s} }
func onlyEnterprise(s span) [4]span { return [4]span{3: s} }

// gated are fields of the adaptive HTTP and firewall datasets and the lowest plan that may use
// them. Flattened names; a trailing * stands for any ending.
var gated = []struct {
	field  string
	lowest Plan
}{
	{"dimensions_clientAsn", Pro},
	{"dimensions_clientASNDescription", Pro},
	{"dimensions_clientRefererHost", Pro},
	{"dimensions_clientRequestReferer", Pro},
	{"dimensions_clientRequestQuery", Pro},
	{"dimensions_edgeResponseContentTypeName", Pro},
	{"dimensions_originResponseStatus", Pro},
	{"dimensions_originResponseDurationMs", Pro},
	{"dimensions_edgeTimeToFirstByteMs", Pro},
	{"quantiles_*", Pro},
	{"avg_edgeTimeToFirstByteMs", Pro},
	{"avg_originResponseDurationMs", Pro},
	{"avg_edgeDnsResponseTimeMs", Pro},
	{"sum_edgeTimeToFirstByteMs", Pro},
	{"sum_originResponseDurationMs", Pro},
	{"sum_edgeDnsResponseTimeMs", Pro},
	{"dimensions_wafAttackScoreClass", Business},
	{"dimensions_waf*", Enterprise},
	{"dimensions_botScore*", Enterprise},
	{"dimensions_ja3Hash", Enterprise},
	{"dimensions_ja4", Enterprise},
	{"dimensions_botDetection*", Enterprise},
	{"sum_botDetection*", Enterprise},
	{"dimensions_botManagementDecision", Enterprise},
}

// entitlement is what the plan may do with the dataset.
func (s *rules) entitlement(scope schema.Scope, d *schema.Dataset, plan Plan) Entitlement {
	rank := slices.Index(planOrder, plan)
	sp, ok := spans[d.Name]
	switch {
	case ok && d.Name == "firewallEventsAdaptiveGroups" && s.config.Switches.OldLimits && plan == Pro:
		sp[rank] = span{3 * day, 3 * day}
	case ok:
	case strings.HasSuffix(d.Name, "NetworkAnalyticsAdaptiveGroups") || strings.HasPrefix(d.Name, "magic"):
		sp = onlyEnterprise(span{112 * day, 31 * day})
	case s.config.Switches.OldLimits:
		sp = adaptiveOld
	default:
		sp = adaptive2026
	}
	e := Entitlement{
		Enabled: sp[rank] != span{}, NotOlderThan: sp[rank].history, MaxDuration: sp[rank].window,
		MaxPageSize: s.limits.PageSize, MaxFields: 70,
	}
	if scope == schema.Account {
		e.MaxFields = 30
	}
	if !e.Enabled {
		return Entitlement{AvailableFields: []string{}}
	}
	for _, name := range d.Flat(scope) {
		if !refusedByPlan(d.Name, name, rank) {
			e.AvailableFields = append(e.AvailableFields, name)
		}
	}
	return e
}

func refusedByPlan(dataset, field string, rank int) bool {
	if dataset != "httpRequestsAdaptiveGroups" && dataset != "firewallEventsAdaptiveGroups" {
		return false
	}
	for _, g := range gated {
		prefix, wild := strings.CutSuffix(g.field, "*")
		if (field == g.field || wild && strings.HasPrefix(field, prefix)) && rank < slices.Index(planOrder, g.lowest) {
			return true
		}
	}
	return false
}

// entitlements remembers them: they are asked for in every check.
type entitlementKey struct {
	scope   schema.Scope
	dataset string
	plan    Plan
}

func (s *rules) entitled(scope schema.Scope, d *schema.Dataset, plan Plan) Entitlement {
	key := entitlementKey{scope, d.Name, plan}
	if e, ok := s.entitlements.Load(key); ok {
		return e.(Entitlement)
	}
	e := s.entitlement(scope, d, plan)
	s.entitlements.Store(key, e)
	return e
}
