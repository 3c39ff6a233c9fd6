package roster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"github.com/weir-metrics/weir/internal/bucket"
)

// The settings that select zones and accounts, as problems show them.
const (
	SettingZones    = "CF_ZONES"
	SettingExclude  = "CF_EXCLUDE_ZONES"
	SettingAccounts = "CF_ACCOUNTS"
)

// Filter is what an operator selects: zones and accounts, each by tag or name. An empty
// list means all. Only Accounts restricts scopes that are accounts. Names are normalised
// before they are compared: those of zones as in [SameZone], those of accounts by case
// and number of spaces.
type Filter struct {
	Zones, Exclude, Accounts []string
	// Credential is the credential that the filter belongs to; empty: the filter comes
	// from the settings CF_ZONES and CF_ACCOUNTS.
	Credential string
}

// names returns the names of the settings for zones and accounts, as problems show them.
func (f Filter) names() (zones, accounts string) {
	if f.Credential == "" {
		return SettingZones, SettingAccounts
	}
	of := "credentials[" + f.Credential + "]."
	return of + "zones", of + "accounts"
}

// Settings returns the names of the settings that select.
func (f Filter) Settings() []string {
	zones, accounts := f.names()
	return []string{zones, SettingExclude, accounts}
}

// AccountsSetting returns the name of the setting that selects accounts.
func (f Filter) AccountsSetting() string {
	_, accounts := f.names()
	return accounts
}

// toASCII maps a name as a browser does before a DNS lookup. Names that are not valid
// host names, for example with an underscore, are accepted.
var toASCII = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.VerifyDNSLength(false))

// zoneKey returns the normal form of a zone's name or tag: lower case, punycode, no
// trailing dot. A name that IDNA rejects is only lower-cased.
func zoneKey(name string) string {
	name = strings.TrimSpace(name)
	key, err := toASCII.ToASCII(name)
	if err != nil {
		key = strings.ToLower(norm.NFC.String(name))
	}
	return strings.TrimSuffix(key, ".")
}

// accountKey returns the normal form of an account's name or tag: lower case, one space
// between words.
func accountKey(name string) string {
	return strings.Join(strings.Fields(strings.ToLower(norm.NFC.String(name))), " ")
}

// SameZone reports whether two spellings name the same zone, such as Shop.Example. and
// shop.example, or bücher.example and xn--bcher-kva.example.
func SameZone(a, b string) bool { return zoneKey(a) == zoneKey(b) }

// entries is a list of names by normal form.
type entries struct {
	key    func(string) string
	byKey  map[string]string
	absent bool // the list is empty, which means all (none for exclusions)
}

func list(of []string, key func(string) string) entries {
	e := entries{key, make(map[string]string, len(of)), len(of) == 0}
	for _, entry := range of {
		e.byKey[key(entry)] = entry
	}
	return e
}

// of returns the listed normal forms that match an id or a name.
func (e entries) of(id, name string) (keys []string) {
	if e.absent {
		return nil
	}
	for _, key := range []string{strings.ToLower(id), e.key(name)} {
		if _, listed := e.byKey[key]; listed && key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func (f Filter) lists() (zones, exclude, accounts entries) {
	return list(f.Zones, zoneKey), list(f.Exclude, zoneKey), list(f.Accounts, accountKey)
}

// wanted returns a function that reports whether a zone or an account is selected.
func (f Filter) wanted() func(Seen) bool {
	zones, exclude, accounts := f.lists()
	return func(z Seen) bool {
		if z.Kind == bucket.Account {
			return accounts.absent || len(accounts.of(z.ID, z.Name)) > 0
		}
		return len(exclude.of(z.ID, z.Name)) == 0 &&
			(zones.absent || len(zones.of(z.ID, z.Name)) > 0) &&
			(accounts.absent || len(accounts.of(z.AccountID, z.AccountName)) > 0)
	}
}

// Wants reports whether a zone or an account is selected.
func (f Filter) Wants(z Seen) bool { return f.wanted()(z) }

// Unmatched is an entry of a setting that selects nothing.
type Unmatched struct {
	Setting, Entry string
	// Reason is a sentence for the operator.
	Reason string
}

// Unmatched returns the entries that match no zone or account that the token can see, and
// those that name zones that another setting excludes.
func (f Filter) Unmatched(seen []Seen) []Unmatched {
	zones, exclude, accounts := f.lists()
	settingZones, settingAccounts := f.names()
	zoneNames, accountNames := map[string]string{}, map[string]string{} // by normal form
	isZone, isExcluded, isAccount := map[string]bool{}, map[string]bool{}, map[string]bool{}
	left, taken := map[string]bool{}, map[string]string{} // of CF_ZONES, by normal form
	mark := func(in map[string]bool, keys []string) {
		for _, key := range keys {
			in[key] = true
		}
	}
	for _, z := range seen {
		if z.Kind == bucket.Account {
			accountNames[accountKey(cmp.Or(z.Name, z.ID))] = cmp.Or(z.Name, z.ID)
			mark(isAccount, accounts.of(z.ID, z.Name))
			continue
		}
		zoneNames[zoneKey(z.Name)] = z.Name
		accountNames[accountKey(cmp.Or(z.AccountName, z.AccountID))] = cmp.Or(z.AccountName, z.AccountID)
		out, in := exclude.of(z.ID, z.Name), accounts.of(z.AccountID, z.AccountName)
		mark(isExcluded, out)
		mark(isAccount, in)
		for _, key := range zones.of(z.ID, z.Name) {
			isZone[key] = true
			switch {
			case len(out) > 0:
				taken[key] = fmt.Sprintf("%s excludes this zone as %q", SettingExclude, exclude.byKey[out[0]])
			case !accounts.absent && len(in) == 0:
				taken[key] = fmt.Sprintf("this zone belongs to the account %q, which %s does not name", cmp.Or(z.AccountName, z.AccountID), settingAccounts)
			default:
				left[key] = true
			}
		}
	}
	var found []Unmatched
	add := func(setting, kind string, e entries, is map[string]bool, seen map[string]string) {
		for _, key := range slices.Sorted(maps.Keys(e.byKey)) {
			entry := e.byKey[key]
			u := Unmatched{Setting: setting, Entry: entry}
			switch {
			case !is[key]:
				u.Reason = fmt.Sprintf("%s names %q, %s", setting, entry, unseen(kind, len(seen)))
				if len(found) < mostHints {
					u.Reason += hint(kind, key, seen)
				}
			case setting == settingZones && !left[key]:
				u.Reason = fmt.Sprintf("%s names %q, but %s", setting, entry, taken[key])
			default:
				continue
			}
			found = append(found, u)
		}
	}
	add(settingZones, "zone", zones, isZone, zoneNames)
	add(SettingExclude, "zone", exclude, isExcluded, zoneNames)
	add(settingAccounts, "account", accounts, isAccount, accountNames)
	return found
}

// mostHints limits the number of hints: if a token belongs to another account, thousands
// of entries may be wrong.
const mostHints = 20

func unseen(kind string, n int) string {
	switch n {
	case 0:
		return "but the token sees no " + kind
	case 1:
		return "which is not the one " + kind + " that the token sees"
	}
	return fmt.Sprintf("which is none of the %d %ss that the token sees", n, kind)
}

// hint suggests what was probably meant; empty if nothing is similar.
func hint(kind, key string, seen map[string]string) string {
	if kind == "zone" {
		switch {
		case strings.Contains(key, ","):
			return "; entries are separated by commas outside double quotes"
		case strings.ContainsAny(key, "/*:"):
			return "; use only the name, as Cloudflare lists it"
		}
		for parent := key; parent != ""; {
			_, parent, _ = strings.Cut(parent, ".")
			if name := seen[parent]; name != "" {
				return fmt.Sprintf("; it is a host name in the zone %q", name)
			}
		}
	}
	best, least := "", min(max(1, utf8.RuneCountInString(key)/4), 2)+1
	for _, candidate := range slices.Sorted(maps.Keys(seen)) {
		if d := distance(key, candidate, least); d < least {
			best, least = seen[candidate], d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the edit distance between a and b (insertions, deletions, replacements and
// swaps of neighbours), at most limit.
func distance(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if max(len(x)-len(y), len(y)-len(x)) >= limit {
		return limit
	}
	before, previous, current := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range current {
		current[j] = j
	}
	for i := range x {
		before, previous, current = previous, current, before
		current[0] = i + 1
		for j := range y {
			replace := previous[j]
			if x[i] != y[j] {
				replace++
			}
			current[j+1] = min(replace, previous[j+1]+1, current[j]+1)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				current[j+1] = min(current[j+1], before[j-1]+1)
			}
		}
		if slices.Min(current) >= limit && slices.Min(previous) >= limit {
			return limit
		}
	}
	return min(current[len(y)], limit)
}
