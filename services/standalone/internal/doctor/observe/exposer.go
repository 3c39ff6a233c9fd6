package observe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
)

// plainText asks for the format whose timestamps are whole milliseconds.
const plainText = "text/plain;version=0.0.4"

// Exposers asks exposers by the URLs of their data ports, all at once.
func Exposers(ctx context.Context, urls []string, client *http.Client) []doctor.Exposer {
	list := make([]doctor.Exposer, len(urls))
	var all sync.WaitGroup
	for i, u := range urls {
		all.Go(func() {
			list[i] = doctor.Exposer{URL: u}
			list[i].Err = askExposer(ctx, newSite(u, client), &list[i])
		})
	}
	all.Wait()
	return list
}

// near is the time-out of a target, which need not be reachable from here.
const near = 10 * time.Second

// TargetStores asks the targets of the scrape job which store they serve, unless they are
// among the exposers that were asked. The addresses are those of the Prometheus, so no
// credential is sent to them.
func TargetStores(ctx context.Context, targets []doctor.Target, asked []doctor.Exposer) {
	ctx, cancel := context.WithTimeout(ctx, near)
	defer cancel()
	var all sync.WaitGroup
	for i := range targets {
		t := &targets[i]
		if x := slices.IndexFunc(asked, func(x doctor.Exposer) bool { return x.StoreID != "" && host(x.URL) == host(t.URL) }); x >= 0 {
			t.Store = asked[x].StoreID
			continue
		}
		all.Go(func() { t.Store, t.StoreErr = storeOf(ctx, t.URL) })
	}
	all.Wait()
}

func storeOf(ctx context.Context, target string) (string, error) {
	a, err := newSite(target, &http.Client{}).get(ctx, "", nil, plainText)
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("no response within %s", near)
	case err != nil:
		return "", err
	case a.header.Get("X-Weir-Store") != "":
		return a.header.Get("X-Weir-Store"), nil
	case a.status != http.StatusOK:
		return "", a.refusal()
	}
	return "", errors.New("its response has no header X-Weir-Store, so it is not the data port of an exposer")
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Host
}

func askExposer(ctx context.Context, s site, x *doctor.Exposer) error {
	ready, err := s.get(ctx, "/-/ready", nil, "")
	switch {
	case err != nil:
		return err
	case ready.status == http.StatusServiceUnavailable && strings.Contains(ready.body, "weir-exposer"):
		x.NotReady = clip(ready.body)
		return nil
	case ready.status != http.StatusOK:
		return fmt.Errorf("%s/-/ready: %w", s.base, ready.refusal())
	case !strings.Contains(ready.body, "weir-exposer"):
		return fmt.Errorf("%s/-/ready: it answers %q, so this is not an exposer", s.base, clip(ready.body))
	}
	a, err := s.page(ctx, "/metrics", nil, plainText)
	if err != nil {
		return err
	}
	x.StoreID = a.header.Get("X-Weir-Store")
	if x.StoreID == "" {
		return fmt.Errorf("%s/metrics has no header X-Weir-Store: give the data port of an exposer (9810 by default), not its operations port", s.base)
	}
	x.Revision, err = strconv.ParseUint(a.header.Get("X-Weir-Revision"), 10, 64)
	if err != nil {
		return fmt.Errorf("%s/metrics: the header X-Weir-Revision is %q; it must be a number", s.base, a.header.Get("X-Weir-Revision"))
	}
	if n, err := strconv.ParseInt(a.header.Get("X-Weir-Age-Seconds"), 10, 64); err == nil {
		x.Age, x.HasAge = time.Duration(n)*time.Second, true
	}
	if n, err := strconv.Atoi(a.header.Get("X-Weir-Replay-Hours")); err == nil {
		x.Replay = time.Duration(n) * time.Hour
	}
	x.Missing, _ = strconv.Atoi(a.header.Get("X-Weir-Pages-Missing")) // absent: none
	x.Turn, _ = strconv.ParseInt(a.header.Get("X-Weir-Turn"), 10, 64)
	x.Bytes = int64(len(a.body))
	_, err = expose(a.body, time.Millisecond, func(p point) error {
		x.Samples++
		if p.at.IsZero() {
			return errors.New("the sample has no timestamp")
		}
		if _, zone := p.labels["zone"]; zone && len(p.labels) == 2 && !slices.Contains(x.Families, p.name) {
			x.Families = append(x.Families, p.name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s/metrics: %w", s.base, err)
	}
	x.Counters = askCounters(ctx, s)
	return nil
}

func askCounters(ctx context.Context, s site) (c doctor.Counters) {
	a, err := s.get(ctx, "/counters", nil, plainText)
	switch {
	case err != nil:
		c.Err = err
		return c
	case a.status == http.StatusNotFound && !a.html():
		c.Off = true
		return c
	case a.status == http.StatusServiceUnavailable && !a.html():
		c.Why = clip(a.body)
		return c
	case a.status != http.StatusOK:
		c.Err = fmt.Errorf("%s/counters: %w", s.base, a.refusal())
		return c
	}
	c.StoreID, c.Epoch = a.header.Get("X-Weir-Store"), a.header.Get("X-Weir-Counter-Epoch")
	if c.StoreID == "" || c.Epoch == "" {
		c.Err = fmt.Errorf("%s/counters has no headers X-Weir-Store and X-Weir-Counter-Epoch, so it is not the page of an exposer", s.base)
		return c
	}
	if _, err := expose(a.body, time.Millisecond, func(p point) error {
		if !p.at.IsZero() {
			return errors.New("the counter has a timestamp")
		}
		if strings.HasSuffix(p.name, "_total") {
			c.Series++
		}
		return nil
	}); err != nil {
		c.Err = fmt.Errorf("%s/counters: %w", s.base, err)
	}
	return c
}

// OwnFrom reads operations pages, all at once, and asks whether their processes are ready.
func OwnFrom(ctx context.Context, urls []string, client *http.Client) *doctor.Own {
	pages := make([]doctor.Own, len(urls))
	var all sync.WaitGroup
	for i, u := range urls {
		all.Go(func() {
			if err := askOwn(ctx, newSite(u, client), &pages[i]); err != nil {
				pages[i].Errs = []string{err.Error()}
			}
		})
	}
	all.Wait()
	o := &doctor.Own{From: strings.Join(urls, ", ")}
	for i := range pages {
		o.Errs, o.Samples = append(o.Errs, pages[i].Errs...), append(o.Samples, pages[i].Samples...)
		o.Asked, o.NotReady = o.Asked+pages[i].Asked, append(o.NotReady, pages[i].NotReady...)
	}
	return o
}

func askOwn(ctx context.Context, s site, o *doctor.Own) error {
	a, err := s.page(ctx, "/metrics", nil, plainText)
	if err != nil {
		return err
	}
	list, err := own(a.body, s.base, wanted)
	switch {
	case a.html():
		return fmt.Errorf("%s/metrics: it answers with an HTML page, so this is no operations port", s.base)
	case err != nil:
		return fmt.Errorf("%s/metrics: %w", s.base, err)
	case len(list) == 0:
		return fmt.Errorf("%s/metrics has no metric of Weir: give an operations port (9811 or 9821 by default)", s.base)
	}
	o.Samples = list
	ready, err := s.get(ctx, "/-/ready", nil, "")
	switch {
	case err != nil:
		return err
	case ready.status == http.StatusServiceUnavailable && strings.Contains(ready.body, " is not ready"):
		o.NotReady = []string{s.base + ": " + clipAt(ready.body, 5*shown)} // the remedy comes last
	case ready.status != http.StatusOK:
		return fmt.Errorf("%s/-/ready: %w", s.base, ready.refusal())
	}
	o.Asked = 1
	return nil
}

// judged are the metrics that the judge reads.
var judged = []string{
	"weir_collector_leader", "weir_collector_budget_needed_requests", "weir_collector_budget_share_requests",
	"weir_exposer_late_commit_timestamp_seconds", "weir_exposer_ready", "process_start_time_seconds",
}

func wanted(name string) bool { return slices.Contains(judged, name) }
