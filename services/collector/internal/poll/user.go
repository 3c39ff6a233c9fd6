package poll

import (
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// user is a Cloudflare user in one term, to compare its share with the need of its credentials.
type user struct {
	name      string
	lines     []*line
	alone     bool        // all credentials belong to it
	weighed   uint64      // fingerprint of the last comparison
	weighedOf int         // zones that were known at that time
	scale     float64     // ratio of all zones to the known ones
	waits     bucket.Time // since when settings are unread; 0: none are
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

// has reports whether a scope belongs to one of the user's credentials.
func (u *user) has(sc *roster.Scope) bool {
	return slices.ContainsFunc(u.lines, func(l *line) bool { return l.Name == sc.Credential })
}

// about is what a problem is about, with the names of the credentials if there are several
// users.
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

// setting is the name of a setting of the user's credentials.
func (u *user) setting(alone, of string) string {
	if u.lines[0].Select.Credential == "" {
		return alone
	}
	return of + " of credential " + strings.Join(strings.Split(u.names(), ", "), " and ")
}
