package cfsim

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/query"
)

// maxBody is the largest request that is read.
const maxBody = 4 << 20

// accountBased is the header value that asks for account-based rate limits.
const accountBased = "account-based"

// graphql answers one GraphQL request. It fills in the log entry.
func (s *Server) graphql(r *http.Request, t *token, now time.Time, entry *Request) reply {
	if r.Method != http.MethodPost {
		return s.refuse(&gqlError{message: "only POST is supported", status: http.StatusMethodNotAllowed}, now, entry)
	}
	var request struct {
		Query         string         `json:"query"`
		OperationName string         `json:"operationName"`
		Variables     map[string]any `json:"variables"`
	}
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	dec.UseNumber() // 64-bit integers must arrive whole
	parseErr := dec.Decode(&request)
	entry.Operation = request.OperationName
	var fields []query.Field
	if parseErr == nil {
		fields, parseErr = query.Parse(request.Query, request.OperationName, request.Variables)
	}
	d := &document{s: s, token: t, now: now, log: entry, accountly: r.Header.Get("X-Rate-Limit-Type") == accountBased}
	var tree object
	var err *gqlError
	if parseErr != nil {
		err = badRequest("query contains error, please review it and retry: %s", parseErr)
	} else {
		tree, err = d.plan(fields)
	}
	// The budget counts requests, good or bad; and it speaks first.
	if over, wait := d.charge(); over != nil {
		out := s.refuse(over, now, entry)
		if s.config.Switches.RetryAfter {
			out.header.Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		}
		if status := s.config.Switches.BudgetStatus; status != 0 {
			out.status = status
		}
		return out
	}
	if err != nil {
		return s.refuse(err, now, entry)
	}
	var buf bytes.Buffer
	buf.WriteString(`{"data":`)
	if err := d.encode(&buf, tree); err != nil {
		return s.refuse(err, now, entry)
	}
	buf.WriteString(`,"errors":`)
	if len(d.errors) == 0 {
		buf.WriteString("null}")
	} else {
		list := make([]any, len(d.errors))
		for i, e := range d.errors {
			list[i] = e.object(now, s.config.Switches.NumericPath)
		}
		appendJSON(&buf, list)
		buf.WriteString("}")
		entry.Outcome = "partial"
	}
	return reply{status: http.StatusOK, header: jsonHeader(), body: buf.Bytes()}
}

// charge takes the request from the budgets that it belongs to.
func (d *document) charge() (*gqlError, time.Duration) {
	s := d.s
	cost := 1
	if s.config.Switches.MultiplyBudget {
		cost = max(d.scopes, 1)
	}
	if !d.accountly || len(d.charges) == 0 {
		left, wait, ok := s.queries.take(d.token.User, cost, s.limits.Queries, d.now)
		d.left = left
		if ok {
			return nil, 0
		}
		return errBudget, wait
	}
	for _, key := range d.charges {
		left, wait, ok := s.queries.take(key, 1, s.accountlyLimit(key, d.now), d.now)
		d.left = left
		if !ok {
			scope, tag := cutKey(key)
			return exceeded(scope, tag), wait
		}
	}
	return nil, 0
}

// refuse is the answer for an error of the whole request.
func (s *Server) refuse(e *gqlError, now time.Time, entry *Request) reply {
	entry.Outcome, entry.Message = e.code, e.message
	if e.code == "" {
		entry.Outcome = "error"
	}
	status := http.StatusOK
	if s.config.Switches.DocumentedStatus {
		status = e.status
	}
	return reply{status: status, header: jsonHeader(), body: errorBody(e, now, s.config.Switches.NumericPath)}
}

// encode writes the planned tree and computes what is pending in it.
func (d *document) encode(buf *bytes.Buffer, v any) *gqlError {
	switch x := v.(type) {
	case object:
		buf.WriteByte('{')
		for i, m := range x {
			if i > 0 {
				buf.WriteByte(',')
			}
			appendJSON(buf, m.key)
			buf.WriteByte(':')
			if err := d.encode(buf, m.value); err != nil {
				return err
			}
		}
		buf.WriteByte('}')
	case []any:
		buf.WriteByte('[')
		for i, e := range x {
			if i > 0 {
				buf.WriteByte(',')
			}
			if err := d.encode(buf, e); err != nil {
				return err
			}
		}
		buf.WriteByte(']')
	case *int:
		appendJSON(buf, *x)
	case *pending:
		return d.compute(buf, x)
	default:
		appendJSON(buf, x)
	}
	return nil
}

func (d *document) compute(buf *bytes.Buffer, p *pending) *gqlError {
	odd, partial := d.s.faults.oddities(p.sel.dataset.Name, p.tag, d.now)
	if partial && p.refused == nil {
		p.refused = errUnable.at(p.path)
	}
	if p.refused != nil {
		d.errors = append(d.errors, p.refused)
		buf.WriteString("null")
		return nil
	}
	body, rows, err := d.s.answer(p.sel, p.zones, d.now, p.tag, odd)
	if err != nil {
		return err.at(p.path)
	}
	d.log.setRows(p, rows)
	buf.Write(body)
	return nil
}

func appendJSON(buf *bytes.Buffer, v any) {
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // the simulator encodes its own maps, strings and numbers
	}
	buf.Truncate(buf.Len() - 1) // Encode ends with a line break
}

func jsonHeader() http.Header {
	return http.Header{"Content-Type": {"application/json; charset=utf-8"}}
}
