package poll

import (
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// line is a credential in one term: what fails with it as a whole, and when it may
// be used again. What one line waits for, no other does.
type line struct {
	*upstream.Credential
	group int  // of [plan.Want]
	alone bool // it is the only one, so that nobody need be told which it is

	outage  upstream.Outage // nothing can be asked
	blocked bucket.Time     // nothing may be sent before, as this pass has found; 0: something may

	discoverAt bucket.Time
	listing    upstream.Outage // of the list of zones alone
	unlisted   bool            // the list failed in this pass, which so has nothing to read settings of
	list       roster.List     // of zones, as last heard
	// accounts are listed where any dataset is about accounts.
	accounts        roster.List
	listingAccounts upstream.Outage
	unmatched       []roster.Unmatched

	urgent   list     // settings to be read in this pass, less those of scopes to blame apart
	turns    int      // requests for settings that may be sent before one for data has to be
	refusals refusals // of variants, by answers
}

// lines are those of all credentials, in the order of the configuration.
type lines []*line

func newLines(credentials []upstream.Credential) (all lines) {
	for i := range credentials {
		c := &credentials[i]
		all = append(all, &line{
			Credential: c, group: i, alone: len(credentials) == 1, turns: settingsAtOnce,
			list: roster.List{Credential: c.Name, Select: c.Select}, accounts: roster.List{Credential: c.Name, Select: c.Select},
		})
	}
	return all
}

// named is the line of a credential; nil where it is not configured any more.
func (all lines) named(credential string) *line {
	for _, l := range all {
		if l.Name == credential {
			return l
		}
	}
	return nil
}

// about is what a problem is about: with several lines, also which it is.
func (l *line) about(what string) string {
	if l.alone {
		return what
	}
	return strings.TrimSpace(l.Name + " " + what)
}

// with says by which credential something is done, where there are several.
func (l *line) with() string {
	if l.alone {
		return ""
	}
	return " with credential " + l.Name
}

// token is what problems call the token.
func (l *line) token() string {
	if l.alone {
		return "the API token"
	}
	return "the API token of credential " + l.Name
}

// open reports whether anything may be sent by any line.
func (all lines) open() bool {
	return slices.ContainsFunc(all, func(l *line) bool { return l.blocked == 0 })
}
