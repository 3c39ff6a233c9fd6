package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// Prometheus is a Prometheus or VictoriaMetrics that is asked.
type Prometheus struct {
	api *promapi.Client
	now time.Time

	// Known once it was asked.
	victoria bool
	pool     string // name of the job in the configuration
	label    string // the label job of its targets
}

// NewPrometheus returns one at a URL. Questions are about the time now.
func NewPrometheus(base string, client *http.Client, now time.Time) *Prometheus {
	c := *client
	c.Timeout = patience
	return &Prometheus{api: promapi.Over(base, &c), now: now}
}

// data asks for the data of a path of the API.
func (p *Prometheus) data(ctx context.Context, path string, args url.Values, data any) error {
	return p.explain(path, p.api.Data(ctx, path, args, data))
}

// page asks for another page.
func (p *Prometheus) page(ctx context.Context, path string) (string, error) {
	body, err := p.api.Page(ctx, path)
	return body, p.explain(path, err)
}

// apiError is Prometheus's own refusal of a request that reached it.
type apiError struct{ text string }

func (e apiError) Error() string { return "Prometheus refuses: " + clip(e.text) }

// explain says who answers, if it is not Prometheus, and what.
func (p *Prometheus) explain(path string, err error) error {
	var answered *promapi.Error
	var failed *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answered):
		switch a := (&answer{status: answered.Status, body: answered.Text}); {
		case a.status == http.StatusBadRequest || a.status == http.StatusUnprocessableEntity:
			return apiError{a.body}
		case a.status != http.StatusOK:
			err = a.refusal()
		case a.html():
			err = errors.New("it answers with an HTML page, so this is not the API of Prometheus")
		default:
			err = fmt.Errorf("it answers %q, which is not of Prometheus's API", clip(a.body))
		}
	case errors.As(err, &failed) && failed.Timeout():
		err = fmt.Errorf("no response within %s", patience)
	case errors.As(err, &failed): // its text repeats the whole query
		err = failed.Err
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("the response broke off: %w", err)
	}
	return fmt.Errorf("%s%s: %w", p.api.URL(), path, err)
}

// refusedBy are the counters of samples that are not stored.
var refusedBy = []string{
	"prometheus_target_scrapes_sample_out_of_order_total", "prometheus_target_scrapes_sample_out_of_bounds_total",
	"prometheus_target_scrapes_sample_duplicate_timestamp_total", "prometheus_tsdb_too_old_samples_total",
	"vm_rows_ignored_total",
}

// Ask asks for everything that is judged. The families are those with one series for
// each zone.
func (p *Prometheus) Ask(ctx context.Context, job string, families []string) *doctor.Prometheus {
	o := &doctor.Prometheus{URL: p.api.URL(), Job: job, Kind: doctor.KindPrometheus}
	if _, o.Err = p.query(ctx, "vector(1)"); o.Err != nil {
		return o
	}
	var build struct {
		Version string `json:"version"`
	}
	if p.data(ctx, "/api/v1/status/buildinfo", nil, &build) == nil {
		o.Version = build.Version
	}
	p.itself(ctx, o)
	p.victoria = o.Kind == doctor.KindVictoria
	p.targets(ctx, o)
	p.stores(ctx, o)
	p.config(ctx, o)
	if p.victoria {
		o.Flags, o.FlagsErr = p.api.Flags(ctx)
	}
	p.duplicates(ctx, o, families)
	return o
}

// itself reads its own metrics, from which VictoriaMetrics is recognised, since for
// Grafana's sake it gives itself the version of a Prometheus.
func (p *Prometheus) itself(ctx context.Context, o *doctor.Prometheus) {
	o.Refused = map[string]float64{}
	body, err := p.page(ctx, "/metrics")
	if err == nil {
		_, err = expose(body, time.Millisecond, func(s point) error {
			if s.name == "vm_app_version" {
				o.Kind, o.Version = doctor.KindVictoria, strings.TrimPrefix(s.labels["short_version"], "v")
			}
			if slices.Contains(refusedBy, s.name) {
				o.Refused[s.name] += s.value
			}
			return nil
		})
	}
	o.RefusedErr = err
	for _, name := range refusedBy {
		v, err := p.query(ctx, fmt.Sprintf("sum(increase(%s[1h]))", name))
		if err != nil {
			o.RefusedErr = err
			return
		}
		if len(v) == 0 {
			continue
		}
		if !o.SelfScraped {
			o.SelfScraped, o.RefusedErr, o.Refused = true, nil, map[string]float64{}
		}
		o.Refused[name] = value(v)
	}
}

func (p *Prometheus) targets(ctx context.Context, o *doctor.Prometheus) {
	var data struct {
		ActiveTargets []struct {
			Labels     map[string]string `json:"labels"`
			ScrapePool string            `json:"scrapePool"`
			ScrapeURL  string            `json:"scrapeUrl"`
			LastError  string            `json:"lastError"`
			Health     string            `json:"health"`
		} `json:"activeTargets"`
	}
	o.TargetsErr = p.data(ctx, "/api/v1/targets", url.Values{"state": {"active"}}, &data)
	for _, t := range data.ActiveTargets {
		if t.ScrapePool == o.Job || t.Labels["job"] == o.Job {
			if p.label == "" { // the Prometheus operator names jobs and sets the label in its own way
				p.pool, p.label = t.ScrapePool, t.Labels["job"]
			}
			o.Targets = append(o.Targets, doctor.Target{URL: t.ScrapeURL, Health: t.Health, LastError: clip(t.LastError)})
		} else if !slices.Contains(o.Others, t.Labels["job"]) {
			o.Others = append(o.Others, t.Labels["job"])
		}
	}
	slices.Sort(o.Others)
}

// stores reads which stores the exposers serve whose own metrics it scrapes.
func (p *Prometheus) stores(ctx context.Context, o *doctor.Prometheus) {
	found, err := p.query(ctx, "group by (store_id) (weir_exposer_store_info)")
	if err != nil {
		return // what is not known here is asked of the targets
	}
	for _, s := range found {
		o.Stores = append(o.Stores, s.Labels["store_id"])
	}
	slices.Sort(o.Stores)
}

// duplicates looks for families of which there are several series for one zone.
func (p *Prometheus) duplicates(ctx context.Context, o *doctor.Prometheus, families []string) {
	if len(families) == 0 {
		families = []string{"cloudflare_zone_requests"}
	}
	for _, family := range families[:min(len(families), 5)] {
		many, err := p.query(ctx, fmt.Sprintf("count(count by (zone, account) (count_over_time(%s[2h])) > 1)", family))
		if err != nil {
			o.DuplicatesErr = err
			return
		}
		if value(many) == 0 {
			continue
		}
		under, err := p.query(ctx, fmt.Sprintf("count by (job, instance) (count_over_time(%s[2h]))", family))
		if err != nil {
			o.DuplicatesErr = err
			return
		}
		var list []string
		for _, s := range under {
			list = append(list, fmt.Sprintf("job=%q, instance=%q", s.Labels["job"], s.Labels["instance"]))
		}
		slices.Sort(list)
		o.Duplicates = append(o.Duplicates, fmt.Sprintf("%s of %.0f zones under %s", family, value(many), strings.Join(list, " and ")))
	}
}

// Own reads Weir's metrics about itself from what Prometheus has scraped.
func (p *Prometheus) Own(ctx context.Context) *doctor.Own {
	o := &doctor.Own{From: p.api.URL()}
	names := strings.Join(slices.DeleteFunc(slices.Clone(judged), func(n string) bool { return n == "process_start_time_seconds" }), "|")
	for _, q := range []string{
		fmt.Sprintf(`{__name__=~"%s"}`, names),
		`process_start_time_seconds and on (job, instance) weir_collector_leader`,
	} {
		found, err := p.query(ctx, q)
		if err != nil {
			o.Errs = append(o.Errs, err.Error())
			continue
		}
		for _, s := range found {
			o.Samples = append(o.Samples, doctor.Sample{Name: s.Labels["__name__"], Labels: s.Labels, From: s.Labels["job"] + "/" + s.Labels["instance"], Value: value([]promapi.Series{s})})
		}
	}
	return o
}

// value is that of the first series; 0 without one.
func value(list []promapi.Series) float64 {
	if len(list) == 0 || list[0].Value == nil {
		return 0
	}
	return list[0].Value.Value
}

// query evaluates an expression at the time of the questions. A scalar is a series
// without labels.
func (p *Prometheus) query(ctx context.Context, expr string) ([]promapi.Series, error) {
	var data struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	}
	seconds := strconv.FormatFloat(float64(p.now.UnixMilli())/1000, 'f', 3, 64)
	if err := p.data(ctx, "/api/v1/query", url.Values{"query": {expr}, "time": {seconds}}, &data); err != nil {
		return nil, err
	}
	if data.Type == "scalar" || data.Type == "string" {
		return []promapi.Series{{}}, nil
	}
	var list []promapi.Series
	if err := json.Unmarshal(data.Result, &list); err != nil {
		return nil, fmt.Errorf("%s: the result of a query is not of the expected form: %w", p.api.URL(), err)
	}
	return list, nil
}
