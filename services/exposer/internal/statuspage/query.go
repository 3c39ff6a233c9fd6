package statuspage

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// PageSize is the number of zones and accounts on one page.
const PageSize = 20

// Query is what a reader asks for.
type Query struct {
	// Text is searched for in names, labels, ids and names of accounts.
	Text string
	// Show is "all", "collected", "uncollected", "problems", or a state of windows.
	Show string
	// Account is the id of an account; empty: all.
	Account string
	// Dataset is the id of a dataset; empty: all.
	Dataset string
	// Range is "replay" or "retention".
	Range string
	// Page is the number of the page, from 1.
	Page int
	// ID and Zone name one scope, by id or by name. At most one is not empty.
	ID, Zone string
}

const (
	longestText = 512 // bytes, the maximum of a label
	lastPage    = 1_000_000
)

// parameter is one parameter of the pages. set returns what would be right.
type parameter struct {
	name string
	set  func(q *Query, value string) (right string)
}

// Shows returns the values of the parameter show.
func Shows() []string {
	return slices.Concat([]string{everything}, stateShows(), []string{"collected", "uncollected"})
}

var parameters = []parameter{
	{"q", func(q *Query, v string) string { return short(&q.Text, v) }},
	{"show", func(q *Query, v string) string { return oneOf(&q.Show, v, Shows()...) }},
	{"account", func(q *Query, v string) string { return short(&q.Account, v) }},
	{"dataset", func(q *Query, v string) string { return short(&q.Dataset, v) }},
	{"range", func(q *Query, v string) string { return oneOf(&q.Range, v, "replay", "retention") }},
	{"page", func(q *Query, v string) string {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > lastPage {
			return fmt.Sprintf("must be a whole number from 1 to %d", lastPage)
		}
		q.Page = n
		return ""
	}},
	{"id", func(q *Query, v string) string { return short(&q.ID, v) }},
	{"zone", func(q *Query, v string) string { return short(&q.Zone, v) }},
}

func short(to *string, v string) string {
	if len(v) > longestText || !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
		return fmt.Sprintf("must be valid UTF-8 of at most %d bytes", longestText)
	}
	*to = strings.TrimSpace(v)
	return ""
}

func oneOf(to *string, v string, values ...string) string {
	if !slices.Contains(values, v) {
		return "must be one of " + strings.Join(values, ", ")
	}
	*to = v
	return ""
}

// Overview and Single are the parameters of the pages /status and /status/scope; /status.json
// has both.
var (
	Overview = []string{"q", "show", "account", "dataset", "range", "page"}
	Single   = []string{"id", "zone", "range"}
	Both     = []string{"q", "show", "account", "dataset", "range", "page", "id", "zone"}
)

// Parse parses the query of a URL that may have these parameters. The error names the
// parameter, its value, and what would be right.
func Parse(raw string, allowed []string) (Query, error) {
	q := Query{Show: "all", Range: "replay", Page: 1}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("the query of the URL is not valid: %w", err)
	}
	for name := range values {
		if !slices.Contains(allowed, name) {
			return q, fmt.Errorf("parameter %s is not known here; there are %s", clip(name), strings.Join(allowed, ", "))
		}
	}
	for _, p := range parameters {
		given := values[p.name]
		if len(given) > 1 {
			return q, fmt.Errorf("parameter %s is given %d times; it must be given once", p.name, len(given))
		}
		if len(given) == 0 || given[0] == "" {
			continue
		}
		if right := p.set(&q, given[0]); right != "" {
			return q, fmt.Errorf("parameter %s is %s; it %s", p.name, clip(given[0]), right)
		}
	}
	if q.ID != "" && q.Zone != "" {
		return q, fmt.Errorf("parameter id is %s and zone is %s; only one of them may be given", clip(q.ID), clip(q.Zone))
	}
	return q, nil
}

// clip quotes what a client sent.
func clip(v string) string {
	const most = 100
	if len(v) > most {
		v = strings.ToValidUTF8(v[:most], "") + "…"
	}
	return strconv.Quote(v)
}

// URL is the query of this page with another page number; empty if all is as usual.
func (q Query) URL(page int) string {
	v := url.Values{}
	set := func(name, value, usual string) {
		if value != usual {
			v.Set(name, value)
		}
	}
	set("q", q.Text, "")
	set("show", q.Show, "all")
	set("account", q.Account, "")
	set("dataset", q.Dataset, "")
	set("range", q.Range, "replay")
	set("page", strconv.Itoa(page), "1")
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}
