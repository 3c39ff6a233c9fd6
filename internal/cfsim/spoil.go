package cfsim

import (
	"bytes"
	"fmt"
	"net/http"
	"time"
)

// spoil applies a transport fault to the content of an answer; what it does to
// the connection is done when the answer is sent.
func (s *Server) spoil(out *reply, f *Fault, now time.Time, entry *Request) {
	fail := func(status int, e *gqlError) { // with the headers of every answer
		ray, date := out.header.Get("CF-Ray"), out.header.Get("Date")
		*out = s.refuse(e, now, entry)
		out.status = status
		out.header.Set("CF-Ray", ray)
		out.header.Set("Date", date)
	}
	nullErrors := []byte(`,"errors":null}`)
	switch f.Kind {
	case FaultTruncated:
		out.body = out.body[:len(out.body)/2]
	case FaultRubbish:
		out.body = append(bytes.Clone(out.body), "\n<!-- rubbish -->"...)
	case FaultHTML:
		status := f.Status
		if status == 0 {
			status = http.StatusBadGateway
		}
		htmlPage(out, status, fmt.Sprintf("api.cloudflare.com | %d: %s", status, edgeReason(status)))
	case FaultChallenge:
		htmlPage(out, http.StatusForbidden, "Just a moment...")
	case FaultEmptyBody:
		out.status, out.body = http.StatusOK, nil
	case FaultEmptyObject:
		out.status, out.body = http.StatusOK, []byte("{}")
	case FaultNullData:
		out.status, out.body = http.StatusOK, []byte(`{"data":null,"errors":null}`)
	case FaultEmptyErrors:
		out.body = append(bytes.TrimSuffix(out.body, nullErrors), `,"errors":[]}`...)
	case FaultNoErrors:
		out.body = append(bytes.TrimSuffix(out.body, nullErrors), '}')
	case FaultBusy:
		fail(http.StatusServiceUnavailable, errBusy)
	case FaultInternal:
		fail(http.StatusInternalServerError, errInternal)
	case FaultBudget:
		fail(http.StatusOK, errBudget)
		if s.config.Switches.BudgetStatus != 0 {
			out.status = s.config.Switches.BudgetStatus
		}
		if s.config.Switches.RetryAfter {
			out.header.Set("Retry-After", fmt.Sprint(int(s.limits.Window.Seconds())))
		}
	case FaultSkew:
		out.header.Set("Date", now.Add(f.Delay).UTC().Format(http.TimeFormat))
	default:
		if refusals[f.Kind].status != 0 {
			s.refuseBy(out, f, now, entry)
		}
	}
	if entry.Outcome == "ok" && f.Kind != FaultSkew && f.Kind != FaultEmptyErrors && f.Kind != FaultNoErrors {
		entry.Outcome = "fault"
	}
}

// htmlPage replaces an answer by an error page of Cloudflare's own edge.
func htmlPage(out *reply, status int, title string) {
	out.status = status
	out.header.Set("Content-Type", "text/html; charset=UTF-8")
	out.body = fmt.Appendf(nil, "<!DOCTYPE html>\n<html lang=\"en-US\">\n<head><title>%s</title></head>\n"+
		"<body><h1>%s</h1><p>Cloudflare Ray ID: <strong>%s</strong></p></body>\n</html>\n", title, title, out.header.Get("CF-Ray"))
}

// edgeReason is the phrase for a status, including Cloudflare's own.
func edgeReason(status int) string {
	switch status {
	case 520:
		return "Web server is returning an unknown error"
	case 521:
		return "Web server is down"
	case 522:
		return "Connection timed out"
	case 524:
		return "A timeout occurred"
	}
	return http.StatusText(status)
}
