package poll

import (
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// line is a credential in one term: its failures as a whole, and when it may be used again.
// Lines do not wait for each other.
type line struct {
	*upstream.Credential
	group int  // of [plan.Want]
	alone bool // it is the only one, so messages need not name it

	outage    upstream.Outage // nothing can be sent
	blocked   bucket.Time     // nothing may be sent before, in this pass; 0: not blocked
	transient int             // failures since the last response that name no scope, in this pass or before

	discoverAt bucket.Time
	noRepair   bucket.Time     // no permit for what can wait before, in this pass; 0: nothing lacked one
	noHistory  bucket.Time     // no permit for backfills before
	listing    upstream.Outage // of the list of zones alone
	unlisted   bool            // the list failed in this pass, so no settings are read
	list       roster.List     // of zones, as of the last response
	// accounts are listed if any dataset is about accounts.
	accounts        roster.List
	listingAccounts upstream.Outage
	unmatched       []roster.Unmatched

	urgent   list     // settings to read in this pass, except of scopes that void requests
	turns    int      // requests for settings that may be sent before the next one for data
	refusals refusals // of variants

	refused []bucket.Scope // without a name and a known reason, since anything succeeded; each once
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

// named is the line of a credential; nil if it is no longer configured.
func (all lines) named(credential string) *line {
	for _, l := range all {
		if l.Name == credential {
			return l
		}
	}
	return nil
}

// about is what a problem is about, with the name of the line if there are several.
func (l *line) about(what string) string {
	if l.alone {
		return what
	}
	return strings.TrimSpace(l.Name + " " + what)
}

// with names the credential in a message, if there are several.
func (l *line) with() string {
	if l.alone {
		return ""
	}
	return " with credential " + l.Name
}

// token names the token in a message.
func (l *line) token() string {
	if l.alone {
		return "the API token"
	}
	return "the API token of credential " + l.Name
}

// open reports whether any line may send requests.
func (all lines) open() bool {
	return slices.ContainsFunc(all, func(l *line) bool { return l.blocked == 0 })
}
