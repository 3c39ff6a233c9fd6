package cloudflare

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
)

// envelope is the body of every response, of GraphQL and REST.
type envelope struct {
	members
	Errors []wireError

	// REST only.
	Success    *bool
	ResultInfo *resultInfo
}

// refused reports whether the body reports a failure.
func (e *envelope) refused() bool { return len(e.Errors) > 0 || e.Success != nil && !*e.Success }

// wireError is an error of either API. Codes can have any type, so that an unusual code
// does not hide the message.
type wireError struct {
	Message    string `json:"message"`
	Path       []any  `json:"path"`
	Extensions struct {
		Code json.RawMessage `json:"code"`
	} `json:"extensions"`
	Code  json.RawMessage `json:"code"`
	Chain []wireError     `json:"error_chain"`
}

// open reads the body of a reply, or returns why it is invalid.
func (r *reply) open() (*envelope, error) {
	found, err := scan(r.body, &r.bounds)
	if err != nil {
		return nil, r.foreign(err)
	}
	if head := bytes.TrimSpace(r.body); head[0] != '{' {
		return nil, r.foreign(errors.New("it is not an object"))
	}
	e := &envelope{members: found}
	for _, part := range []struct {
		at span
		to any
	}{{found.errors, &e.Errors}, {found.success, &e.Success}, {found.info, &e.ResultInfo}} {
		if err := r.decode(part.at, part.to); err != nil {
			return nil, r.foreign(err)
		}
	}
	if !e.refused() && r.status != http.StatusOK {
		return nil, r.unexplained("response without errors")
	}
	return e, nil
}

// decode reads a part of the body. An absent part leaves the target unchanged.
func (r *reply) decode(part span, to any) error {
	if part == (span{}) {
		return nil
	}
	return json.Unmarshal(r.body[part.from:part.to], to)
}

// foreign is the error of a body that the API did not send.
func (r *reply) foreign(err error) error {
	what := "body is not the JSON of the API: " + err.Error()
	head := bytes.TrimSpace(r.body)
	switch {
	case len(head) == 0:
		what = "body is empty"
	case head[0] == '<' || strings.Contains(r.header.Get("Content-Type"), "html"):
		what = "body is HTML"
	}
	if r.status != http.StatusOK {
		return r.unexplained(what)
	}
	class := BadResponse
	if refused, ok := errors.AsType[*scanError](err); ok {
		class = refused.class
	}
	return r.problem(class, what)
}

// unexplained is the error of a status without a reason in the body.
func (r *reply) unexplained(what string) error {
	class := classOf(r.status)
	if r.status < 400 { // a redirect that is not followed, or a success without content
		class = BadResponse
	}
	e := r.problem(class, fmt.Sprintf("%s %s: %s", strconv.Itoa(r.status), http.StatusText(r.status), what))
	e.RetryAfter = r.retryAfter()
	e.explain()
	e.pause()
	e.Body = r.beginning()
	return e
}

// refusal converts the errors of a body to one Error with the others in Also. The query
// is nil for the REST API.
func (r *reply) refusal(body *envelope, q *Query) error {
	if len(body.Errors) == 0 {
		return r.unexplained("refused without an error")
	}
	out := make([]*Error, len(body.Errors))
	for i := range body.Errors {
		out[i] = r.convert(&body.Errors[i], q, body.Success != nil)
	}
	slices.SortStableFunc(out, func(a, b *Error) int { return cmp.Compare(a.Class.weight(), b.Class.weight()) })
	out[0].Also = out[1:]
	return out[0]
}

// convert reads one error; rest is whether it is in the REST API's envelope.
func (r *reply) convert(w *wireError, q *Query, rest bool) *Error {
	e := r.problem(0, w.Message)
	e.Code = redact(cmp.Or(codeText(w.Extensions.Code), codeText(w.Code)), r.token)
	// The chain is more precise than its head: "Invalid request headers" is
	// followed by "Invalid format for Authorization header".
	for i := range w.Chain {
		if len(e.Message) > mostText {
			break
		}
		if m := redact(w.Chain[i].Message, r.token); m != "" {
			e.Message = strings.TrimSpace(e.Message + ": " + m)
		}
	}
	e.explain()
	if q != nil {
		q.locate(e, w.Path)
		e.Node = redact(e.Node, r.token)
	}
	if rest {
		e.Class = classifyREST(e, q != nil)
	} else {
		e.Class = classify(e)
	}
	if e.Class == Auth && e.Zone != "" && !rest {
		e.Class = Denied // an invalid token is refused before zones are checked
	}
	e.RetryAfter = r.retryAfter()
	e.pause()
	if e.Class == Unknown {
		e.Body = r.beginning()
	}
	return e
}

// bodyShown is how much of a body that is not recognised is logged.
const bodyShown = 300

// beginning is the first part of the body, as one line without secrets.
func (r *reply) beginning() string {
	// The token is redacted before the text is truncated. The end of the text, which may
	// have the beginning of a token, is left out.
	head := r.body[:min(len(r.body), 4*bodyShown)]
	text := redact(string(head), r.token)
	if len(head) < len(r.body) {
		text = text[:max(0, len(text)-len(r.token))]
	}
	if len(text) > bodyShown {
		text = strings.ToValidUTF8(text[:bodyShown], "") + "…"
	}
	return text
}

// codeText returns a code, which may be a string or a number.
func codeText(raw json.RawMessage) string {
	if len(raw) == 0 || !strings.ContainsRune(`"-0123456789`, rune(raw[0])) {
		return "" // absent, null, or of another type
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return string(raw)
	}
	return text
}

// locate reads the path ["viewer","zones","0","alias"]. Its elements are strings, even the
// position, although numbers are valid. Names in the message take precedence.
func (q *Query) locate(e *Error, path []any) {
	for i := 0; i < len(path); i++ {
		name := fmt.Sprint(path[i])
		position := -1
		if i+1 < len(path) {
			if n, err := strconv.Atoi(fmt.Sprint(path[i+1])); err == nil && n >= 0 {
				position = n
			}
		}
		switch {
		case name == "zones" && position >= 0:
			if zones := q.sortedZones(); e.Zone == "" && position < len(zones) {
				e.Zone = zones[position]
			}
			i++
		case name == "accounts" && position >= 0:
			e.Account = cmp.Or(e.Account, q.AccountID)
			i++
		default:
			for j := range q.Selections {
				if s := &q.Selections[j]; e.Alias == "" && s.Alias == name {
					e.Alias, e.Node = s.Alias, s.Node
				}
			}
		}
	}
	// A settings node without an alias, or a node named by itself.
	if e.Node == "" && len(path) > 0 {
		if last, ok := path[len(path)-1].(string); ok && namePattern.MatchString(last) && last != "viewer" && last != "zones" && last != "accounts" {
			e.Node = last
		}
	}
}

// scopes is the part of data that every query has.
type scopes struct {
	zones, accounts any
	cost, budget    any
}

// data reads the body of a GraphQL response and returns its scopes.
func (r *reply) data(q *Query) (*scopes, error) {
	e, err := r.open()
	if err != nil {
		return nil, err
	}
	if e.refused() {
		return nil, r.refusal(e, q)
	}
	data, _ := parse(r.body, e.data).(map[string]any)
	viewer, ok := data["viewer"].(map[string]any)
	if !ok {
		return nil, r.problem(BadResponse, "neither data nor errors in the response")
	}
	return &scopes{zones: viewer["zones"], accounts: viewer["accounts"], cost: data["cost"], budget: viewer["budget"]}, nil
}

// objects is a list of scopes.
func objects(name string, v any) ([]map[string]any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is missing or not a list", name)
	}
	out := make([]map[string]any, len(list))
	for i := range list {
		if out[i], ok = list[i].(map[string]any); !ok {
			return nil, fmt.Errorf("%s has an entry that is null or not an object", name)
		}
	}
	return out, nil
}

// byTag returns the zones of a response by tag, and the account if the query names one;
// nil for an account that is not visible.
func (s *scopes) byTag(q *Query) (zones map[string]map[string]any, account map[string]any, err error) {
	nested := s.zones
	if q.AccountID != "" {
		accounts, err := objects("accounts", s.accounts)
		if err != nil {
			return nil, nil, err
		}
		if len(accounts) == 0 {
			return map[string]map[string]any{}, nil, nil
		}
		account = accounts[0]
		if len(accounts) > 1 || account["accountTag"] != q.AccountID {
			return nil, nil, fmt.Errorf("accounts are not the requested one, %s", q.AccountID)
		}
		if len(q.Zones) == 0 {
			return nil, account, nil
		}
		nested = account["zones"]
	}
	list, err := objects("zones", nested)
	if err != nil {
		return nil, nil, err
	}
	zones = make(map[string]map[string]any, len(list))
	for _, z := range list {
		tag, _ := z["zoneTag"].(string)
		if !slices.Contains(q.Zones, tag) {
			return nil, nil, fmt.Errorf("zone %q was not requested", bucket.Clip(tag))
		}
		if _, dup := zones[tag]; dup {
			return nil, nil, fmt.Errorf("zone %s occurs twice", tag)
		}
		zones[tag] = z
	}
	return zones, account, nil
}

// response validates the reply to q.
func (r *reply) response(q *Query) (*Response, error) {
	s, err := r.data(q)
	if err != nil {
		return nil, err
	}
	zones, account, err := s.byTag(q)
	if err != nil {
		return nil, r.problem(BadResponse, err.Error())
	}
	a := &Response{Date: r.date, Ray: r.ray, Cost: number(s.cost), Budget: number(s.budget)}
	if len(q.Zones) == 0 {
		if account != nil {
			if a.Account, err = q.groups(account); err != nil {
				return nil, r.problem(BadResponse, fmt.Sprintf("account %s: %v", q.AccountID, err))
			}
		}
		return a, nil
	}
	a.Zones = make(map[string]map[string][]map[string]any, len(zones))
	for tag, z := range zones {
		if a.Zones[tag], err = q.groups(z); err != nil {
			e := r.problem(BadResponse, fmt.Sprintf("zone %s: %v", tag, err))
			e.Zone = tag
			return nil, e
		}
	}
	return a, nil
}

func number(v any) uint64 {
	n, _ := v.(json.Number)
	u, err := strconv.ParseUint(n.String(), 10, 64)
	if err != nil {
		return 0 // only for people, so the response remains valid
	}
	return u
}

// groups returns the groups of every selection of one scope. A missing or null list is an
// error, not an empty list.
func (q *Query) groups(scope map[string]any) (map[string][]map[string]any, error) {
	out := make(map[string][]map[string]any, len(q.Selections))
	for i := range q.Selections {
		s := &q.Selections[i]
		list, ok := scope[s.Alias].([]any)
		if !ok {
			return nil, fmt.Errorf("%s (%s) is missing or not a list", s.Alias, s.Node)
		}
		if len(list) > s.Limit {
			return nil, fmt.Errorf("%s (%s) has %d groups with a limit of %d", s.Alias, s.Node, len(list), s.Limit)
		}
		groups := make([]map[string]any, len(list))
		for j := range list {
			if groups[j], ok = list[j].(map[string]any); !ok {
				return nil, fmt.Errorf("%s (%s) has a group that is null or not an object", s.Alias, s.Node)
			}
		}
		out[s.Alias] = groups
	}
	return out, nil
}
