package poll

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// reportUnmatched reports entries of the settings that select nothing. The excluded zones are
// one setting for all credentials, and are compared with everything that they see; a selection
// is compared with what its own credential sees.
func (d *discoverer) reportUnmatched(seen []roster.Seen) {
	count, problems := map[string]int{}, map[string]string{}
	report := func(u roster.Unmatched) {
		count[u.Setting]++
		problems[u.Setting+" "+u.Entry] = u.Reason
	}
	for _, l := range d.lines {
		for _, setting := range l.Select.Settings() {
			count[setting] += 0
		}
		for _, u := range l.unmatched {
			if l.alone || u.Setting != roster.SettingExclude {
				report(u)
			}
		}
	}
	if len(d.lines) > 1 && !slices.ContainsFunc(d.lines, func(l *line) bool { return l.list.At == 0 }) {
		for _, u := range (roster.Filter{Exclude: d.lines[0].Select.Exclude}).Unmatched(seen) {
			report(u)
		}
	}
	for setting, n := range count {
		d.metrics.unmatched.WithLabelValues(setting).Set(float64(n))
	}
	d.trouble.Replace(trouble.SelectionUnmatched, problems)
}

// checkZones reports why no zone of a line is collected, if none is, and returns how many are.
func (d *discoverer) checkZones(l *line) (collected int) {
	idle := map[roster.State]int{}
	for _, sc := range d.books.roster {
		switch {
		case sc.Kind != bucket.Zone, sc.Credential != l.Name:
		case sc.State == roster.Active:
			collected++
		case sc.Listed():
			idle[sc.State]++
		}
	}
	why := ""
	switch taken := d.taken(l); {
	case collected > 0, !d.collects(bucket.Zone), taken > 0, d.books.active(l, bucket.Account) > 0:
		// The credential's zones may be collected with others, or it may be for accounts.
		d.trouble.Clear(trouble.NoZones, l.about(""))
		return collected
	case l.list.At == 0: // not known yet
		return 0
	case len(idle) > 0:
		why = fmt.Sprintf("of the zones that are selected %d are paused at Cloudflare, %d are pending (added and not activated yet) and %d are moved, deactivated or the like",
			idle[roster.Paused], idle[roster.Pending], idle[roster.Inactive])
	case len(l.list.Seen) == 0:
		why = "Cloudflare shows the token no zone. The token needs the permissions Zone Read and Zone Analytics Read for the zones that are wanted"
	default:
		why = fmt.Sprintf("the token sees %d zones, and %s select none of them", len(l.list.Seen), inWords(l.Select.Settings()))
	}
	d.trouble.Set(trouble.NoZones, l.about(""), "no zone is collected"+l.with()+": "+why)
	return 0
}

// checkAccounts reports why no account of a line is collected, if none is and one should be,
// and returns how many are.
func (d *discoverer) checkAccounts(l *line) (collected int) {
	if !d.collects(bucket.Account) {
		return 0
	}
	collected = d.books.active(l, bucket.Account)
	why := ""
	elsewhere := func(z roster.Seen) bool {
		sc := d.books.roster[z.Scope()]
		return sc != nil && sc.Listed() && sc.Credential != l.Name
	}
	switch visible := len(l.accounts.Seen); {
	case collected > 0, slices.ContainsFunc(l.accounts.Seen, elsewhere):
		d.trouble.Clear(trouble.NoAccounts, l.about(""))
		return collected
	case l.accounts.At == 0: // not known yet
		return 0
	case visible == 0:
		why = "Cloudflare shows the token no account, and no zone of one. Datasets about accounts need the permission Account Analytics Read, and to find the accounts Account Settings Read or, for those with zones, Zone Read"
	case slices.ContainsFunc(l.accounts.Seen, func(z roster.Seen) bool {
		sc := d.books.roster[z.Scope()]
		return sc != nil && sc.Listed() && sc.Credential != l.Name
	}):
		why = "the selected accounts that the token sees are collected with other credentials"
	default:
		why = fmt.Sprintf("the token sees %d accounts, and %s selects none of them", visible, l.Select.AccountsSetting())
	}
	d.trouble.Set(trouble.NoAccounts, l.about(""), "no account is collected"+l.with()+": "+why)
	return 0
}

// permission is what a token needs to request data of scopes of a kind.
func permission(kind bucket.ScopeKind) string {
	if kind == bucket.Account {
		return "Account Analytics Read"
	}
	return "Zone Analytics Read"
}

// taken is the number of zones that a line sees and that are collected with others.
func (d *discoverer) taken(l *line) (n int) {
	for _, z := range l.list.Seen {
		if sc := d.books.roster[z.Scope()]; sc != nil && sc.Listed() && sc.Credential != l.Name {
			n++
		}
	}
	return n
}

func inWords(names []string) string {
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// reportOdd reports zones and accounts with values that cannot be used unchanged.
func (d *discoverer) reportOdd(seen []roster.Seen) {
	now := map[string]bool{}
	for _, z := range seen {
		if d.books.roster[z.Scope()] == nil {
			continue // not selected
		}
		if odd := z.Odd(); odd != "" {
			about := z.Scope().String()
			now[about] = true
			d.trouble.Set(trouble.InvalidValue, about, odd)
		}
	}
	for about := range d.odd {
		if !now[about] {
			d.trouble.Clear(trouble.InvalidValue, about)
		}
	}
	d.odd = now
}
