package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// The limits of one reading of a state. The next request of a state is not sent after
// LongestState: whoever reads states one after another is not kept from the others by an
// API that answers slowly.
const (
	MostCalls    = 50 // requests
	LongestState = 2 * time.Minute
)

// The largest pages of lists of states.
const (
	tunnelsPerPage = 1000
	statesPerPage  = 50
)

// State reads a state of a scope from the REST API: what is true now, which cannot be asked
// for later. The node is one of the names in [readers]. More is called before every request
// but the first, for a permit of its own; its errors are returned as they are.
//
// The groups are in the form of those of [Response]: an object "dimensions" with text, and an
// object "max" with numbers as json.Number, or nil where the state is not known. No two have
// the same dimensions. Other errors are of type [*Error], except those of ctx. One of a token
// that may not see the state is of class [Denied] and names the scope.
func (c *Client) State(ctx context.Context, node string, of bucket.Scope, more func(context.Context) error) ([]map[string]any, error) {
	read, known := readers[node]
	switch {
	case !known || read.kind != of.Kind:
		return nil, &Error{Class: Ours, Message: fmt.Sprintf("%q is no state of a %s", bucket.Clip(node), of.Kind), Field: node}
	case !tagPattern.MatchString(of.ID):
		return nil, &Error{Class: Ours, Message: fmt.Sprintf("%s %q has no valid tag", of.Kind, bucket.Clip(of.ID))}
	}
	r := &stateReader{Client: c, of: of, more: more, began: time.Now()}
	err := read.read(ctx, r)
	if err != nil {
		return nil, r.about(fmt.Errorf("read %s: %w", node, err))
	}
	return r.groups, nil
}

// readers are the states by node. The catalogue's files name nodes, dimensions and fields.
var readers = map[string]struct {
	kind bucket.ScopeKind
	read func(context.Context, *stateReader) error
}{
	"tunnels":           {bucket.Account, readTunnels},
	"tunnelConnectors":  {bucket.Account, readConnectors},
	"loadBalancerPools": {bucket.Account, readPools},
	"certificatePacks":  {bucket.Zone, readCertificates},
	"customHostnames":   {bucket.Zone, readHostnames},
	"firewallRules":     {bucket.Zone, readRules},
}

// stateReader reads one state.
type stateReader struct {
	*Client
	of     bucket.Scope
	more   func(context.Context) error
	began  time.Time
	calls  int
	groups []map[string]any
}

// call must be called before each request.
func (r *stateReader) call(ctx context.Context) error {
	if r.calls++; r.calls == 1 {
		return nil
	}
	if r.calls > MostCalls {
		return &Error{Class: TooBig, Message: fmt.Sprintf("the state takes more than %d requests", MostCalls)}
	}
	if took := time.Since(r.began); took > LongestState {
		return &Error{Class: Transient, Message: fmt.Sprintf("the state is not read after %s and %d requests; at most %s are given to it", took.Round(time.Second), r.calls-1, LongestState)}
	}
	return r.more(ctx)
}

// path is a path below the scope.
func (r *stateReader) path(elem ...string) []string {
	return append([]string{r.of.Kind.String() + "s", r.of.ID}, elem...)
}

// add adds a group.
func (r *stateReader) add(dimensions map[string]string, fields map[string]any) {
	dims := make(map[string]any, len(dimensions)+1)
	for name, text := range dimensions {
		dims[name] = text
	}
	r.groups = append(r.groups, map[string]any{"dimensions": dims, "max": fields})
}

// about is an error that names the scope if it is a denial. The REST API answers a token that
// lacks a permission with 403 and the words for a token that is not valid, which it answers
// with 401 elsewhere; only this state is known to be refused.
func (r *stateReader) about(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status != http.StatusForbidden || e.Class != Denied && (e.Class != Auth || e.Code != "10000") {
		return err
	}
	e.Class = Denied
	if e.Zone, e.Account = r.of.ID, ""; r.of.Kind == bucket.Account {
		e.Zone, e.Account = "", r.of.ID
	}
	return err
}

// absent reports whether an error says that a thing is gone.
func absent(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// idPattern is an id of something below a scope: a tag or a UUID. Paths are made of them.
var idPattern = regexp.MustCompile(`^([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

// list reads all pages of a list below the scope.
func list[T any](ctx context.Context, r *stateReader, params url.Values, perPage int, id func(*T) string, elem ...string) ([]T, error) {
	return pages(ctx, r.Client, pageWalk[T]{path: r.path(elem...), params: params, perPage: perPage, id: id, pattern: idPattern, before: r.call})
}

func whole(n int) json.Number { return json.Number(strconv.Itoa(n)) }

// truth is 1 or 0, or nil if it is not known.
func truth(is *bool) any {
	switch {
	case is == nil:
		return nil
	case *is:
		return whole(1)
	}
	return whole(0)
}

type tunnel struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Type   string `json:"tun_type"`
	Status string `json:"status"`
}

// healths are the numbers of lablabs/cloudflare-exporter.
var healths = map[string]int{"down": 0, "healthy": 1, "degraded": 2, "inactive": 3}

const healthElse = 255

func (r *stateReader) tunnels(ctx context.Context) ([]tunnel, error) {
	return list(ctx, r, url.Values{"is_deleted": {"false"}}, tunnelsPerPage, func(t *tunnel) string { return t.ID }, "cfd_tunnel")
}

func readTunnels(ctx context.Context, r *stateReader) error {
	all, err := r.tunnels(ctx)
	for _, t := range all {
		health, known := healths[t.Status]
		if !known {
			health = healthElse
		}
		r.add(map[string]string{"id": t.ID, "name": t.Name, "type": t.Type}, map[string]any{"present": whole(1), "health": whole(health)})
	}
	return err
}

type connector struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Conns   []struct {
		OriginIP string `json:"origin_ip"`
	} `json:"conns"`
}

// readConnectors asks each tunnel that has any. The list of tunnels has connections too, without
// the architecture, and Cloudflare has announced to leave them empty.
func readConnectors(ctx context.Context, r *stateReader) error {
	all, err := r.tunnels(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.Status == "down" || t.Status == "inactive" {
			continue
		}
		connectors, err := list(ctx, r, url.Values{}, tunnelsPerPage, func(c *connector) string { return c.ID }, "cfd_tunnel", t.ID, "connections")
		if absent(err) {
			continue // deleted since it was listed
		}
		if err != nil {
			return fmt.Errorf("connections of tunnel %s: %w", t.ID, err)
		}
		for i := range connectors {
			c := &connectors[i]
			var from []string
			for _, one := range c.Conns {
				from = append(from, one.OriginIP)
			}
			ip := ""
			if len(from) > 0 {
				ip = slices.Min(from) // the order of connections is not stable
			}
			r.add(map[string]string{"tunnelId": t.ID, "id": c.ID, "version": c.Version, "arch": c.Arch, "originIp": ip},
				map[string]any{"present": whole(1), "connections": whole(len(c.Conns))})
		}
	}
	return nil
}

type pool struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Healthy *bool  `json:"healthy"`
	Origins []struct {
		Name    string `json:"name"`
		Address string `json:"address"`
		Healthy *bool  `json:"healthy"`
	} `json:"origins"`
}

func readPools(ctx context.Context, r *stateReader) error {
	all, err := list(ctx, r, url.Values{}, statesPerPage, func(p *pool) string { return p.ID }, "load_balancers", "pools")
	for i := range all {
		p := &all[i]
		for _, o := range p.Origins {
			r.add(map[string]string{"id": p.ID, "name": p.Name, "origin": o.Name, "address": o.Address},
				map[string]any{"poolHealthy": truth(p.Healthy), "originHealthy": truth(o.Healthy)})
		}
	}
	return err
}

type certificatePack struct {
	ID           string `json:"id"`
	Type         string `json:"type"`
	Status       string `json:"status"`
	Authority    string `json:"certificate_authority"`
	Certificates []struct {
		ID      string `json:"id"`
		Issuer  string `json:"issuer"`
		Expires string `json:"expires_on"`
	} `json:"certificates"`
}

func readCertificates(ctx context.Context, r *stateReader) error {
	// Without status=all, packs that are not active are left out.
	all, err := list(ctx, r, url.Values{"status": {"all"}}, statesPerPage, func(p *certificatePack) string { return p.ID }, "ssl", "certificate_packs")
	for i := range all {
		p := &all[i]
		of := func(certificate, issuer string) map[string]string {
			return map[string]string{"id": p.ID, "type": p.Type, "authority": p.Authority, "status": p.Status, "certificateId": certificate, "issuer": issuer}
		}
		if len(p.Certificates) == 0 { // not issued yet
			r.add(of("", ""), map[string]any{"present": whole(1), "expires": nil})
		}
		for _, one := range p.Certificates {
			var expires any
			if one.Expires != "" {
				at, err := time.Parse(time.RFC3339, one.Expires)
				if err != nil || at.Unix() < 0 {
					return &Error{Class: BadResponse, Message: fmt.Sprintf("certificate %q expires on %q, which is no time", bucket.Clip(one.ID), bucket.Clip(one.Expires))}
				}
				expires = json.Number(strconv.FormatInt(at.Unix(), 10))
			}
			r.add(of(one.ID, one.Issuer), map[string]any{"present": whole(1), "expires": expires})
		}
	}
	return err
}

type customHostname struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	SSL    struct {
		Status    string `json:"status"`
		Authority string `json:"certificate_authority"`
	} `json:"ssl"`
}

// readHostnames counts the hostnames, of which a zone can have thousands.
func readHostnames(ctx context.Context, r *stateReader) error {
	all, err := list(ctx, r, url.Values{}, statesPerPage, func(h *customHostname) string { return h.ID }, "custom_hostnames")
	if err != nil {
		return err
	}
	counts := map[[3]string]int{}
	for i := range all {
		counts[[3]string{all[i].Status, all[i].SSL.Status, all[i].SSL.Authority}]++
	}
	for k, n := range counts {
		r.add(map[string]string{"status": k[0], "sslStatus": k[1], "authority": k[2]}, map[string]any{"hostnames": whole(n)})
	}
	return nil
}
