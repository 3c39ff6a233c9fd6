package cfsim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// page cuts a list by page and per_page and wraps it.
func page(r *http.Request, list []any, most int) reply {
	return pageOf(r, list, most, func(v any) any { return v })
}

// pageOf is page for a list whose entries are made only where they are sent.
func pageOf[T any](r *http.Request, list []T, most int, entry func(T) any) reply {
	number := func(name string, def int) int {
		n, err := strconv.Atoi(r.URL.Query().Get(name))
		if err != nil || n < 1 {
			return def
		}
		return n
	}
	at, per, total := number("page", 1), min(number("per_page", 20), most), len(list)
	from := min((at-1)*per, total)
	sent := []any{}
	for _, v := range list[from:min(from+per, total)] {
		sent = append(sent, entry(v))
	}
	out := envelope(true, sent, []any{}, []any{})
	out["result_info"] = map[string]any{"page": at, "per_page": per, "count": len(sent), "total_count": total, "total_pages": (total + per - 1) / per}
	return wrap(http.StatusOK, out)
}

func result(v any, messages []any) reply {
	if messages == nil {
		messages = []any{}
	}
	return wrap(http.StatusOK, envelope(true, v, []any{}, messages))
}

func envelope(success bool, result any, errs, messages []any) map[string]any {
	return map[string]any{"success": success, "result": result, "errors": errs, "messages": messages}
}

func wrap(status int, v map[string]any) reply {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the simulator's own maps
	}
	return reply{status: status, header: jsonHeader(), body: b}
}

func restRefuse(e *restError, entry *Request) reply {
	entry.Outcome, entry.Message = "refused", e.message
	one := map[string]any{"code": e.code, "message": e.message}
	if len(e.chain) > 0 {
		chain := []any{}
		for _, c := range e.chain {
			chain = append(chain, map[string]any{"code": c.code, "message": c.message})
		}
		one["error_chain"] = chain
	}
	return wrap(e.status, envelope(false, nil, []any{one}, []any{}))
}

// restOverrun blocks all calls of a user after too many.
func (s *rules) restOverrun(wait time.Duration, entry *Request) reply {
	out := restRefuse(&restError{status: http.StatusTooManyRequests, code: 971, message: "Please wait and consider throttling your request speed"}, entry)
	entry.Outcome = "limited"
	seconds := int((wait + time.Second - 1) / time.Second)
	out.header.Set("Retry-After", strconv.Itoa(seconds))
	out.header.Set("Ratelimit", `"default";r=0;t=`+strconv.Itoa(seconds))
	out.header.Set("Ratelimit-Policy", `"burst";q=`+strconv.Itoa(s.limits.RESTCalls)+`;w=`+strconv.Itoa(int(s.limits.Window.Seconds())))
	return out
}
