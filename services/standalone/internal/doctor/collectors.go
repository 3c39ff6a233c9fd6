package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// oldStream is the age of the stream time from which no leader lives: it is renewed
// every few seconds, and the alert WeirStreamStale begins at three minutes.
const oldStream = time.Minute

const giveCollector = "WEIR_COLLECTOR_ADDRESS, or the store (WEIR_DATABASE_URL or WEIR_SQLITE_FILE)"

func collectors(o *Observed) (list []Finding) {
	if len(o.Collectors) == 0 {
		return skipArea("collector", "no collector and no store was given", giveCollector)
	}
	s := &subject{Observed: o}
	for i := range o.Collectors {
		s.collector = &o.Collectors[i]
		list = append(list, s.judge("collector.reachable")...)
		if s.collector.Err == nil {
			s.answered = append(s.answered, s.collector)
		}
	}
	rest := area("collector")[1:]
	if len(s.answered) == 0 {
		return append(list, skipEach(rest, "no collector responded", giveCollector)...)
	}
	return append(list, s.judge(rest...)...)
}

func collectorReachable(s *subject) []Finding {
	c := s.collector
	switch {
	case c.Err != nil && c.Beside:
		return skip("no collector was asked, and its status cannot be computed from the store: "+c.Err.Error(), giveCollector)
	case c.Err != nil:
		return about(c.Address, fail(c.Err.Error(), "The collector does not run, is not reachable from here, or does not accept the credential.",
			"Check that it runs, the address, TLS (WEIR_COLLECTOR_TLS, WEIR_COLLECTOR_CA_FILE) and the token (WEIR_COLLECTOR_TOKEN_FILE)."))
	case c.Beside:
		return skip("no collector was asked; its status was computed from the store", "WEIR_COLLECTOR_ADDRESS, such as 127.0.0.1:9820, which is that of \"weir run\" too")
	default:
		return about(c.Address, pass("it responds: %s, release %s", role(c.Status.GetRole()), c.Status.GetVersion()))
	}
}

// admin asks whether the commands of operators would be refused. A doctor without a token
// may be meant to have none.
func admin(s *subject) (list []Finding) {
	const (
		give  = "WEIR_COLLECTOR_TOKEN_FILE with a token of the collector's WEIR_GRPC_ADMIN_TOKEN_FILE, and WEIR_COLLECTOR_ADDRESS"
		means = "weir backfill, weir gaps, weir restate and weir audit are refused with this token."
	)
	for _, c := range s.answered {
		a := c.Admin
		switch {
		case a == nil && c.Beside:
			list = append(list, skip("no collector was asked", give)...)
		case a == nil:
			list = append(list, about(c.Address, skip("there is no token, and without one the commands are refused", give))...)
		case a.Err == nil:
			list = append(list, about(c.Address, pass("it gives admin access to the token that the commands would use"))...)
		case a.Read:
			list = append(list, about(c.Address, warn(a.Err.Error(), means, "Give the commands a token of the collector's WEIR_GRPC_ADMIN_TOKEN_FILE."))...)
		default:
			list = append(list, about(c.Address, fail(a.Err.Error(), means, "Give a token of the collector's WEIR_GRPC_ADMIN_TOKEN_FILE with WEIR_COLLECTOR_TOKEN_FILE."))...)
		}
	}
	return list
}

func role(r bucketv1.Role) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_"))
}

func leader(s *subject) []Finding {
	leaders, stores, name := map[string]bool{}, map[string][]string{}, ""
	for _, c := range s.answered {
		id := c.Status.GetInfo().GetStoreId()
		stores[id] = append(stores[id], c.Address)
		if c.Status.GetRole() == bucketv1.Role_ROLE_LEADER {
			leaders[c.Address] = true
		}
		if l := c.Status.GetLeader(); l != "" {
			name = l
		}
	}
	for _, m := range s.Own.of("weir_collector_leader") {
		if m.Value == 1 {
			leaders["metrics of "+m.From] = true
		}
	}
	byMetric := 0
	for l := range leaders {
		if strings.HasPrefix(l, "metrics of ") {
			byMetric++
		}
	}
	names := slices.Sorted(maps.Keys(leaders))
	switch two := max(byMetric, len(leaders)-byMetric); {
	case len(stores) > 1:
		var list []string
		for id, addresses := range stores {
			list = append(list, fmt.Sprintf("%s has store %s", strings.Join(addresses, " and "), id))
		}
		slices.Sort(list)
		return fail(strings.Join(list, "; "), "These collectors do not share a store: each asks Cloudflare for the same data, and exposers that change between them show two histories.",
			"Give all of them the same WEIR_DATABASE_URL, or separate them.")
	case two > 1:
		return fail(fmt.Sprintf("%d processes say that they lead: %s", two, strings.Join(names, ", ")),
			"Only one can append, because the database decides. For longer than a change of leader (15 seconds) it means that they do not share a store.",
			"Run it again. If it stays so, compare WEIR_DATABASE_URL of these processes.")
	case name == "" && len(leaders) == 0:
		return fail("nobody holds the lease", "Nothing is collected. Cloudflare keeps what is missing for days, and it is collected once a process leads.",
			"Start a collector; if one runs, read its log. See WeirNoLeader in docs/operations.md.")
	case name == "":
		return pass("%s leads", names[0])
	default:
		return pass("%s leads", name)
	}
}

func stream(s *subject) []Finding {
	newest, revision := time.Time{}, uint64(0)
	for _, c := range s.answered {
		if t := c.Status.GetProgressTime(); t != nil && t.AsTime().After(newest) {
			newest = t.AsTime()
		}
		revision = max(revision, c.Status.GetHead().GetRevision())
	}
	lag := s.Now.Sub(newest)
	switch {
	case newest.IsZero():
		return fail("no leader has written a stream time yet", "Nothing has been collected.", "Start a collector.")
	case lag > oldStream:
		return fail(fmt.Sprintf("the stream time is %s old (revision %d)", span(lag), revision), "No leader lives, or it cannot write to the store.",
			"Read the log of the leader. See WeirStreamStale in docs/operations.md.")
	case lag < -oldStream:
		return warn(fmt.Sprintf("the stream time is %s ahead of this machine's clock", span(-lag)), "The clocks of this machine and of the leader differ.", "Synchronize both clocks.")
	default:
		return pass("the stream time is %s old, at revision %d", span(max(lag, 0)), revision)
	}
}

func problems(s *subject) (list []Finding) {
	said := map[string]bool{}
	for _, c := range s.answered {
		for _, p := range c.Status.GetProblems() {
			text := p.GetCode() + " " + p.GetAbout()
			if said[text] {
				continue
			}
			said[text] = true
			found := p.GetMessage()
			if p.GetAbout() != "" {
				found = p.GetAbout() + ": " + found
			}
			if p.GetSince() != nil {
				found += " (since " + moment(p.GetSince().AsTime()) + ")"
			}
			list = append(list, about(p.GetCode(), fail(found, "The collector needs a person for this.", "See the heading "+p.GetCode()+" in docs/operations.md."))...)
		}
	}
	if len(said) == 0 {
		return pass("GetStatus lists no problem")
	}
	return list
}

func coverage(s *subject) []Finding {
	var missing, unreadable, fine []string
	for _, d := range s.answered[0].Status.GetDatasets() {
		complete := "nothing is complete yet"
		if at := d.GetCompleteUntilUnixSeconds(); at > 0 {
			complete = "complete until " + moment(time.Unix(at, 0))
		}
		text := fmt.Sprintf("%s: %d windows missing, %s", d.GetDataset(), d.GetWindowsMissing(), complete)
		switch {
		case d.GetWindowsUnreadable() > 0:
			unreadable = append(unreadable, fmt.Sprintf("%s: %d windows cannot be read", d.GetDataset(), d.GetWindowsUnreadable()))
		case d.GetWindowsMissing() > 0 && s.Now.Sub(time.Unix(d.GetCompleteUntilUnixSeconds(), 0)) > s.due(d.GetDataset()):
			missing = append(missing, text)
		default:
			fine = append(fine, d.GetDataset())
		}
	}
	switch {
	case len(unreadable) > 0:
		return fail(some(unreadable), "Stored content is damaged. It counts as stored and is not fetched again.", "See STORE_UNREADABLE in docs/operations.md.")
	case len(missing) > 0:
		return warn(some(missing), "These windows are due and not stored: a first collection or a catch-up is in progress, or Cloudflare refuses.",
			"Wait for a catch-up. If the number does not fall, see \"What is missing, and why\" in docs/operations.md.")
	case len(fine) == 0:
		return fail("the store has no dataset", "Nothing has been collected yet.", "Start a collector with a token that sees zones.")
	default:
		return pass("nothing that is due is missing in %s", some(fine))
	}
}

// due is how far behind now a dataset may be complete: a window ends, falls due, and is
// final by its deadline, 15 minutes later. A new leader reads again what it had not yet
// confirmed.
func (s *subject) due(dataset string) time.Duration {
	size, delay := 5*time.Minute, 5*time.Minute
	if s.Log != nil {
		for _, d := range s.Log.Datasets {
			if d.GetDataset() == dataset {
				size, delay = time.Duration(d.GetSizeSeconds())*time.Second, d.GetDelay().AsDuration()
			}
		}
	}
	return size + delay + 25*time.Minute
}

func entitlements(s *subject) []Finding {
	l := s.Log
	switch {
	case l == nil:
		return skip("no collector responded", "WEIR_COLLECTOR_ADDRESS, or the store")
	case l.Err != nil:
		return warn("scopes cannot be listed: "+l.Err.Error(), "What the plans allow is not known.", "Read the collector's log.")
	}
	active, allowed := 0, 0
	var nothing, refused []string
	for _, s := range l.Scopes {
		if s.GetState() != bucketv1.ScopeState_SCOPE_STATE_ACTIVE {
			continue
		}
		active++
		some := false
		for _, e := range s.GetEntitlements() {
			switch {
			case e.GetVariant() != "":
				some = true
				allowed++
			case e.GetReason() != "":
				refused = append(refused, fmt.Sprintf("%s of %s (%s)", e.GetDataset(), s.GetName(), e.GetReason()))
			}
		}
		if !some && len(s.GetEntitlements()) > 0 {
			nothing = append(nothing, s.GetName())
		}
	}
	switch {
	case active == 0:
		return fail("the collector knows no active zone or account", "Nothing is collected.", "Check the token and the selection; see NO_ZONES in docs/operations.md.")
	case len(nothing) > 0:
		return warn("no dataset is collected of "+some(nothing)+": "+some(refused), "These zones have no data.", "Change their plan, or exclude them with CF_EXCLUDE_ZONES.")
	case len(refused) > 0:
		return pass("%d pairs of dataset and zone are collected; the plans do not allow %s", allowed, some(refused))
	default:
		return pass("every dataset may be collected of all %d zones and accounts", active)
	}
}

func budget(s *subject) []Finding {
	need, share := s.Own.of("weir_collector_budget_needed_requests"), s.Own.of("weir_collector_budget_share_requests")
	short := func(c *Collector) bool {
		return slices.ContainsFunc(c.Status.GetProblems(), func(p *bucketv1.Problem) bool { return p.GetCode() == "BUDGET_SHORT" })
	}
	const means, fix = "Not everything that is selected can be collected in time.", "Raise WEIR_BUDGET_SHARE, select fewer zones or datasets, or use a second Cloudflare user. See BUDGET_SHORT in docs/operations.md."
	given := map[string]float64{}
	for _, m := range share {
		given[m.Labels["user"]] = max(given[m.Labels["user"]], m.Value)
	}
	needed := map[string]float64{}
	for _, m := range need {
		needed[m.Labels["user"]] = max(needed[m.Labels["user"]], m.Value)
	}
	var texts []string
	over, tight := false, false
	for _, user := range slices.Sorted(maps.Keys(needed)) {
		texts = append(texts, fmt.Sprintf("user %s needs %.0f of %.0f requests in five minutes", user, needed[user], given[user]))
		over = over || needed[user] > given[user]
		tight = tight || needed[user] > 0.8*given[user]
	}
	found := strings.Join(texts, "; ")
	switch {
	case over || slices.ContainsFunc(s.answered, short):
		if found == "" {
			found = "GetStatus lists BUDGET_SHORT"
		}
		return fail(found, means, fix)
	case len(texts) == 0:
		return skip("GetStatus lists no BUDGET_SHORT; the figures are metrics", s.giveOwn())
	case tight:
		return warn(found, "There is little left for catching up after an outage.", fix)
	default:
		return pass("%s", found)
	}
}
