package cfsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Admin is the handler for those who run the simulator: tests in another
// process, the demo's page, a person with curl. It must not listen where the
// API's clients can reach it by mistake. All bodies are JSON.
//
//	GET    /zones                          zones as they are now
//	GET    /truth?zone=&start=&end=        [Server.True]; with dataset= and at=, [Server.Shown]
//	GET    /groups?zone=&dataset=&start=&end=&dimension=…&eyeball=true   [Server.TrueGroups]
//	GET    /requests?last=N                the newest N of the log; DELETE empties it
//	GET    /counters  /budgets
//	GET    /faults                         DELETE ends all
//	POST   /faults                         a [Fault]; answers {"id": N}
//	DELETE /faults/{id}
//	GET    /clock                          {"now": …}; PUT sets it where the clock can be set
//
// Zones are named by tag or by their present name.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			status := http.StatusOK
			if err != nil {
				status, v = http.StatusBadRequest, map[string]string{"error": err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(v) // the reader may have gone away
		})
	}
	handle("GET /zones", func(*http.Request) (any, error) { return s.Zones(), nil })
	handle("GET /truth", admin{s}.adminTruth)
	handle("GET /groups", admin{s}.adminGroups)
	handle("GET /requests", func(r *http.Request) (any, error) {
		all := s.Requests()
		if last, err := strconv.Atoi(r.FormValue("last")); err == nil && last >= 0 {
			all = all[max(0, len(all)-last):]
		}
		return all, nil
	})
	handle("DELETE /requests", func(*http.Request) (any, error) { s.ClearRequests(); return struct{}{}, nil })
	handle("GET /counters", func(*http.Request) (any, error) { return s.Counters(), nil })
	handle("GET /budgets", func(*http.Request) (any, error) { return s.Budgets(), nil })
	handle("GET /faults", func(*http.Request) (any, error) { return s.Faults(), nil })
	handle("DELETE /faults", func(*http.Request) (any, error) { s.ClearFaults(); return struct{}{}, nil })
	handle("POST /faults", func(r *http.Request) (any, error) {
		var f Fault
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&f); err != nil {
			return nil, fmt.Errorf("read fault: %w", err)
		}
		id, err := s.Inject(f)
		return map[string]int{"id": id}, err
	})
	handle("DELETE /faults/{id}", func(r *http.Request) (any, error) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil || !s.Remove(id) {
			return nil, fmt.Errorf("there is no fault %q", r.PathValue("id"))
		}
		return struct{}{}, nil
	})
	handle("GET /clock", func(*http.Request) (any, error) { return map[string]time.Time{"now": s.config.Clock.Now()}, nil })
	handle("PUT /clock", func(r *http.Request) (any, error) {
		settable, ok := s.config.Clock.(interface{ Set(time.Time) })
		if !ok {
			return nil, fmt.Errorf("this clock runs by itself and cannot be set")
		}
		var to struct{ Now time.Time }
		if err := json.NewDecoder(r.Body).Decode(&to); err != nil {
			return nil, fmt.Errorf("read time: %w", err)
		}
		settable.Set(to.Now)
		return map[string]time.Time{"now": s.config.Clock.Now()}, nil
	})
	return mux
}

// ZoneInfo is a zone as it is at one instant.
type ZoneInfo struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Account string `json:"account"`
	Plan    Plan   `json:"plan"`
	Paused  bool   `json:"paused"`
}

// Zones are the zones that exist now, by tag.
func (s *Server) Zones() []ZoneInfo {
	out := []ZoneInfo{}
	for _, z := range s.alive(s.config.Clock.Now()) {
		out = append(out, ZoneInfo{z.ID, z.name, z.account, z.plan, z.paused})
	}
	return out
}

// admin answers questions about the truth.
type admin struct{ *Server }

// form reads the zone and window of a request.
func (s admin) form(r *http.Request) (zone string, start, end time.Time, err error) {
	zone = r.FormValue("zone")
	for _, z := range s.Zones() {
		if z.Name == zone {
			zone = z.ID
		}
	}
	if start, err = time.Parse(time.RFC3339, r.FormValue("start")); err != nil {
		return "", start, end, fmt.Errorf("start must be a time in RFC 3339: %w", err)
	}
	if end, err = time.Parse(time.RFC3339, r.FormValue("end")); err != nil {
		return "", start, end, fmt.Errorf("end must be a time in RFC 3339: %w", err)
	}
	return zone, start, end, nil
}

func (s admin) adminTruth(r *http.Request) (any, error) {
	zone, start, end, err := s.form(r)
	if err != nil {
		return nil, err
	}
	if r.FormValue("at") == "" {
		return s.True(zone, start, end)
	}
	at, err := time.Parse(time.RFC3339, r.FormValue("at"))
	if err != nil {
		return nil, fmt.Errorf("at must be a time in RFC 3339: %w", err)
	}
	return s.Shown(zone, r.FormValue("dataset"), start, end, at)
}

func (s admin) adminGroups(r *http.Request) (any, error) {
	zone, start, end, err := s.form(r)
	if err != nil {
		return nil, err
	}
	var filter map[string]any
	if r.FormValue("eyeball") == "true" {
		filter = map[string]any{"requestSource": "eyeball"}
	}
	return s.TrueGroups(zone, r.FormValue("dataset"), start, end, filter, r.Form["dimension"]...)
}
