package poll

import (
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// user is a Cloudflare user in one term: whether its share is enough for what its
// credentials ask.
type user struct {
	name      string
	lines     []*line
	alone     bool        // all credentials are its
	weighed   uint64      // fingerprint of what was last compared with the share
	weighedOf int         // zones that were known then
	scale     float64     // all zones, by those that were known
	waits     bucket.Time // since when settings are still to be asked for; 0: none are
}

func usersOf(all lines) (users []*user) {
	by := map[string]*user{}
	for _, l := range all {
		u := by[l.User]
		if u == nil {
			u = &user{name: l.User, scale: 1}
			by[l.User], users = u, append(users, u)
		}
		u.lines = append(u.lines, l)
	}
	for _, u := range users {
		u.alone = len(users) == 1
	}
	return users
}

// has reports whether a scope is asked by one of the user's credentials.
func (u *user) has(sc *roster.Scope) bool {
	return slices.ContainsFunc(u.lines, func(l *line) bool { return l.Name == sc.Credential })
}

// about is what a problem is about: with several users, also whose credentials.
func (u *user) about(what string) string {
	if u.alone {
		return what
	}
	return strings.TrimSpace(u.names() + " " + what)
}

func (u *user) names() string {
	names := make([]string, len(u.lines))
	for i, l := range u.lines {
		names[i] = l.Name
	}
	return strings.Join(names, ", ")
}

// setting is what a setting of the user's credentials is called.
func (u *user) setting(alone, of string) string {
	if u.lines[0].Select.Credential == "" {
		return alone
	}
	return of + " of credential " + strings.Join(strings.Split(u.names(), ", "), " and ")
}
