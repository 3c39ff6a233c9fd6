package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Zone is a zone as the REST API lists it.
type Zone struct {
	ID      string
	Name    string
	Status  string // "initializing", "pending", "active", "moved", …
	Paused  bool
	Created time.Time // zero: not known
	Account Account
	Plan    Plan // for people; access depends on the settings, not on the plan
	// Malformed describes the values that could not be read, and what is used instead.
	Malformed []string
}

// Plan is a zone's plan as the REST API lists it.
type Plan struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	LegacyID string `json:"legacy_id"`
}

// UnmarshalJSON reads a zone of a list. Only the id must be valid. Another invalid value
// is replaced by one with which the zone is still collected, and the list remains usable.
func (z *Zone) UnmarshalJSON(text []byte) error {
	var raw struct {
		ID      string          `json:"id"`
		Name    json.RawMessage `json:"name"`
		Status  json.RawMessage `json:"status"`
		Paused  json.RawMessage `json:"paused"`
		Created json.RawMessage `json:"created_on"`
		Account json.RawMessage `json:"account"`
		Plan    json.RawMessage `json:"plan"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return fmt.Errorf("an entry of the list is not a zone with an id: %s", bucket.Clip(string(text)))
	}
	*z = Zone{ID: raw.ID}
	read(z, "name", raw.Name, &z.Name, "", "it has no name")
	read(z, "status", raw.Status, &z.Status, "active", "the zone is treated as active")
	if z.Status == "" {
		z.Status = "active"
		z.Malformed = append(z.Malformed, "the zone has no status; it is treated as active")
	}
	read(z, "paused", raw.Paused, &z.Paused, false, "the zone is treated as not paused")
	read(z, "created_on", raw.Created, &z.Created, time.Time{}, "it is treated as an old zone")
	read(z, "account", raw.Account, &z.Account, Account{}, "it is treated as a zone without an account")
	read(z, "plan", raw.Plan, &z.Plan, Plan{}, "no plan is shown")
	return nil
}

// read reads a value of a zone that may be malformed. A missing value is not malformed.
func read[T any](z *Zone, what string, text json.RawMessage, value *T, instead T, effect string) {
	if len(text) == 0 {
		return
	}
	if err := json.Unmarshal(text, value); err != nil {
		*value = instead
		z.Malformed = append(z.Malformed, fmt.Sprintf("the zone's %s is %s, which is invalid; %s", what, bucket.Clip(string(text)), effect))
	}
}

// Account is an account as the REST API lists it.
type Account struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type resultInfo struct {
	Page       int `json:"page"`
	TotalPages int `json:"total_pages"`
	TotalCount int `json:"total_count"`
	// Cursors has the place of the next page, of lists that have no numbers of pages.
	Cursors struct {
		After string `json:"after"`
	} `json:"cursors"`
}

// zonesPerPage is the documented maximum.
const zonesPerPage = 50

// Zones lists the zones that the token sees, over all pages, by name. An empty list may
// also mean that the token may not list zones. A list that is shorter than Cloudflare's
// own count is an error: a zone that is only missing from a page must not look deleted.
func (c *Client) Zones(ctx context.Context) ([]Zone, error) {
	list, err := pages(ctx, c, pageWalk[Zone]{
		path: []string{"zones"}, params: url.Values{"order": {"name"}, "direction": {"asc"}}, perPage: zonesPerPage,
		id: func(z *Zone) string { return z.ID }, pattern: tagPattern,
	})
	if err != nil {
		return nil, fmt.Errorf("list zones: %w", err)
	}
	return list, nil
}

// Date is Cloudflare's clock, from the header of a small response; whole seconds.
func (c *Client) Date(ctx context.Context) (time.Time, error) {
	u := c.base.JoinPath("zones")
	u.RawQuery = url.Values{"per_page": {"5"}}.Encode() // the documented least
	r, err := c.send(ctx, http.MethodGet, u, nil, c.restBounds(zonesPerPage))
	if err != nil {
		return time.Time{}, fmt.Errorf("query the date: %w", err)
	}
	if r.date.IsZero() { // whatever the status is
		return time.Time{}, r.problem(BadResponse, "the response has no Date header")
	}
	return r.date, nil
}

// Accounts lists the accounts that the token sees.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) {
	list, err := pages(ctx, c, pageWalk[Account]{
		path: []string{"accounts"}, params: url.Values{}, perPage: zonesPerPage, id: func(a *Account) string { return a.ID }, pattern: tagPattern,
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return list, nil
}

// pageWalk is a list to read.
type pageWalk[T any] struct {
	path    []string
	params  url.Values // page and per_page are added
	perPage int
	id      func(*T) string
	pattern *regexp.Regexp              // of ids
	before  func(context.Context) error // called before every request; may be nil
}

// pages reads all pages of a list. Cloudflare's total_pages can be wrong, so it stops at
// the first page without new entries, or when there are as many as Cloudflare counts, and
// at [mostPages]. A full page is the last one only if Cloudflare says so: not every list says
// how long it is.
func pages[T any](ctx context.Context, c *Client, w pageWalk[T]) ([]T, error) {
	const mostPages = 2000
	seen := map[string]bool{}
	out := []T{}
	for page := 1; page <= mostPages; page++ {
		if w.before != nil {
			if err := w.before(ctx); err != nil {
				return nil, err
			}
		}
		u := c.base.JoinPath(w.path...)
		w.params.Set("page", strconv.Itoa(page))
		w.params.Set("per_page", strconv.Itoa(w.perPage))
		u.RawQuery = w.params.Encode()
		list, info, err := get[[]T](ctx, c, u, w.perPage)
		if err != nil {
			return nil, fmt.Errorf("page %d: %w", page, err)
		}
		fresh := 0
		for i := range list {
			key := w.id(&list[i])
			if !w.pattern.MatchString(key) {
				return nil, &Error{Class: BadResponse, Message: fmt.Sprintf("page %d has an entry with id %q", page, bucket.Clip(key))}
			}
			if !seen[key] { // an entry that moved a page down while we walked
				seen[key] = true
				out = append(out, list[i])
				fresh++
			}
		}
		if info == nil {
			info = &resultInfo{}
		}
		w.params.Del("cursor")
		switch full := len(list) >= w.perPage; {
		case info.TotalCount > 0 && len(out) >= info.TotalCount:
			return out, nil
		case fresh == 0 && len(out) < info.TotalCount:
			return nil, &Error{Class: BadResponse, Message: fmt.Sprintf("pages end after %d entries of %d", len(out), info.TotalCount)}
		case fresh == 0:
			return out, nil
		case info.Cursors.After != "":
			w.params.Set("cursor", info.Cursors.After)
		case info.TotalCount == 0 && page >= info.TotalPages && (!full || info.TotalPages > 0):
			return out, nil
		}
	}
	return nil, &Error{Class: BadResponse, Message: fmt.Sprintf("list does not end after %d pages", mostPages)}
}

// get sends one request to the REST API and decodes the result, an entry or a page.
func get[T any](ctx context.Context, c *Client, u *url.URL, entries int) (T, *resultInfo, error) {
	var result *T
	var zero T
	r, err := c.send(ctx, http.MethodGet, u, nil, c.restBounds(entries))
	if err != nil {
		return zero, nil, err
	}
	e, err := r.open()
	if err != nil {
		return zero, nil, err
	}
	if e.refused() || e.Success == nil {
		if e.Success == nil && len(e.Errors) == 0 {
			return zero, nil, r.problem(BadResponse, "response is not an envelope of the REST API")
		}
		return zero, nil, r.refusal(e, nil)
	}
	if e.result == (span{}) {
		err = errors.New("missing")
	} else {
		err = json.Unmarshal(r.body[e.result.from:e.result.to], &result)
	}
	if err == nil && result == nil {
		err = errors.New("null")
	}
	if err != nil {
		return zero, nil, r.problem(BadResponse, fmt.Sprintf("result is not of the requested type: %v", err))
	}
	return *result, e.ResultInfo, nil
}
