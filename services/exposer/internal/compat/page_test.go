package compat_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/exposer/internal/compat"
	"github.com/weir-metrics/weir/services/exposer/internal/counters"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// rig is a fold and a view that have the same entries.
type rig struct {
	t    testing.TB
	fold *counter.Fold
	view *compat.View
	sink follow.Sink
	at   sample.Millis
	rev  bucket.Revision
	only selection.Selection
}

func newRig(t testing.TB) *rig {
	v := compat.NewView(&compat.Lablabs)
	return &rig{t: t, fold: counter.New(), view: v, sink: v.Open(sample.Store{})}
}

func (r *rig) Has(o selection.Owner) bool { return r.only.Match().Has(o) }

func (r *rig) Accounts(yield func(string) bool) {
	names := map[string]bool{}
	for fam := range r.fold.Families {
		for _, s := range fam.Series() {
			names[s.Account] = true
		}
	}
	for name := range names {
		if !yield(name) {
			return
		}
	}
}

func (r *rig) Shown(name string, yield func([]string, *counter.Series, counter.Value)) {
	for _, fam := range r.fold.Of(name) {
		for _, s := range fam.Series() {
			if v, is := s.At(r.at); is && r.Has(selection.Owner{Scope: s.Scope, Zone: s.Zone, Account: s.Account}) {
				yield(fam.Labels, s, v)
			}
		}
	}
}

// give adds a bucket, which is committed when it is due.
func (r *rig) give(d *bucket.Definition, scope, zone, account string, start time.Time, rows ...bucket.Rows) error {
	r.t.Helper()
	r.rev++
	e := &bucket.Entry{
		Position: bucket.Position{Revision: r.rev}, CommittedAt: start.Add(d.Size + d.Delay), Kind: bucket.KindBucket, Definition: d,
		Bucket: &bucket.Bucket{
			Key:  bucket.Key{Dataset: d.Dataset, Scope: bucket.Scope{Kind: d.ScopeKind, ID: strings.Repeat(scope, 32)}, Start: bucket.TimeOf(start)},
			Size: d.Size, Version: d.Version, Zone: zone, Account: account, Origin: bucket.Live, Families: rows,
		},
	}
	if err := r.fold.Add(e); err != nil {
		r.t.Fatal(err)
	}
	err := r.sink.Entry(e)
	r.sink.Confirm(follow.Point{})
	return err
}

func (r *rig) page(at time.Time, f expo.Format) string {
	r.at = sample.MillisOf(at)
	return string(r.view.Append(nil, counters.Options{Format: f, Created: true}, r, r.at))
}

func additive(name string, labels ...string) bucket.Family {
	return bucket.Family{Name: name, Help: "Help.", Labels: labels, Role: bucket.Breakdown, Additive: true}
}

func gauge(name string, labels ...string) bucket.Family {
	return bucket.Family{Name: name, Help: "Help.", Labels: labels, Role: bucket.Breakdown}
}

func dataset(id string, kind bucket.ScopeKind, size time.Duration, families ...bucket.Family) *bucket.Definition {
	return &bucket.Definition{Dataset: id, Version: 1, ScopeKind: kind, Size: size, Delay: 5 * time.Minute, Depth: 6, Families: families}
}

func rows(family string, labels []string, values ...float64) bucket.Rows {
	return bucket.Rows{Family: family, Labels: labels, Values: values}
}

var (
	httpSet    = dataset("http_5m", bucket.Zone, 5*time.Minute, additive("cloudflare_zone_requests"), additive("cloudflare_zone_requests_by_status", "status"))
	countries  = dataset("countries_5m", bucket.Zone, 5*time.Minute, additive("cloudflare_zone_requests_by_country", "country"), additive("cloudflare_zone_bytes_by_country", "country"))
	uploads    = dataset("account_logpush_5m", bucket.Account, 5*time.Minute, additive("cloudflare_account_logpush_uploads", "job_id", "destination", "status", "final"))
	r2         = dataset("r2_storage_1h", bucket.Account, time.Hour, gauge("cloudflare_account_r2_payload_bytes", "bucket", "storage_class"), gauge("cloudflare_account_r2_metadata_bytes", "bucket", "storage_class"))
	pools      = dataset("load_balancing_5m", bucket.Zone, 5*time.Minute, additive("cloudflare_zone_load_balancer_requests", "load_balancer", "pool", "origin"), gauge("cloudflare_zone_load_balancer_pool_healthy_ratio", "load_balancer", "pool"))
	pooled     = []string{"lb", "eu", "lb", "us"}
	poolHealth = "cloudflare_zone_load_balancer_pool_healthy_ratio"
)

// whole is a rig with data of each kind: 20 minutes of it, and an hour.
func whole(t testing.TB) *rig {
	r := newRig(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		start := noon.Add(time.Duration(i) * 5 * time.Minute)
		must(r.give(httpSet, "1", "shop.example", "Acme Corp", start, rows("cloudflare_zone_requests", nil, 300), rows("cloudflare_zone_requests_by_status", []string{"200", "404"}, 270, 30)))
		must(r.give(httpSet, "2", "blog.example", "acme-corp", start, rows("cloudflare_zone_requests", nil, 30)))
		must(r.give(httpSet, "3", "wiki.example", "Other \"One\"", start, rows("cloudflare_zone_requests", nil, 3)))
		must(r.give(countries, "3", "wiki.example", "Other \"One\"", start, rows("cloudflare_zone_requests_by_country", []string{"DE", "T1", "XX", "other"}, 3, 6, 9, 12)))
		must(r.give(uploads, "a", "", "Other \"One\"", start, rows("cloudflare_account_logpush_uploads", []string{"7", "s3", "200", "true", "7", "s3", "500", "true", "7", "s3", "503", "true", "other", "other", "other", "other"}, 300, 30, 3, 6)))
		must(r.give(pools, "3", "wiki.example", "Other \"One\"", start, rows(poolHealth, pooled, 0.5, 0.49)))
	}
	must(r.give(r2, "a", "", "Other \"One\"", noon.Add(-time.Hour),
		rows("cloudflare_account_r2_payload_bytes", []string{"logs", "InfrequentAccess", "logs", "Standard", "site", "Standard"}, 1000, 200, 30),
		rows("cloudflare_account_r2_metadata_bytes", []string{"logs", "InfrequentAccess", "logs", "Standard", "site", "Standard"}, 5, 4, 3)))
	return r
}

// The page in both formats, with what is odd about names and labels of theirs: accounts in three
// ways, two of which would be one in lower case, regions, labels that stay, and attempts that did
// not fail or of which it is not known.
func TestPage(t *testing.T) {
	r := whole(t)
	for f, name := range map[expo.Format]string{expo.Text: "text.txt", expo.OpenMetrics: "openmetrics.txt"} {
		testkit.Golden(t, filepath.Join("testdata", name), []byte(r.page(noon.Add(24*time.Minute), f)))
	}
	text, err := os.Open("testdata/text.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	parsed, err := parser.TextToMetricFamilies(text)
	if err != nil {
		t.Fatal(err)
	}
	all := families(t)
	for _, name := range slices.Sorted(maps.Keys(parsed)) {
		if is := strings.ToLower(parsed[name].GetType().String()); name != "weir_compat_missing" && is != all[name].kind {
			t.Errorf("%s is of type %s, want %s", name, is, all[name].kind)
		}
	}
	if len(parsed) != 8 {
		t.Errorf("%d families: %v", len(parsed), slices.Sorted(maps.Keys(parsed)))
	}
}

// A gauge has the value of the window whose traffic the counters show, and no longer: neither of
// a pool that has no requests any more, nor when nothing is collected any more.
func TestGaugesHaveTheirTurn(t *testing.T) {
	r := newRig(t)
	give := func(i int, labels []string, values ...float64) {
		t.Helper()
		if err := r.give(pools, "3", "wiki.example", "Acme", noon.Add(time.Duration(i)*5*time.Minute), rows(poolHealth, labels, values...)); err != nil {
			t.Fatal(err)
		}
	}
	give(0, pooled, 1, 1)
	give(1, pooled, 0, 1)
	give(2, []string{"lb", "us"}, 1)
	const eu, us = `pool_name="eu"`, `pool_name="us"`
	state := func(at time.Duration, pool string) string {
		for line := range strings.Lines(r.page(noon.Add(at), expo.Text)) {
			if strings.HasPrefix(line, "cloudflare_zone_pool_health_status{") && strings.Contains(line, pool) {
				return line[strings.LastIndexByte(line, ' ')+1 : len(line)-1]
			}
		}
		return ""
	}
	const delay = 14 * time.Minute
	for at, want := range map[time.Duration][2]string{
		delay - time.Millisecond: {"", ""}, delay: {"1", "1"}, delay + 5*time.Minute - time.Millisecond: {"1", "1"},
		delay + 5*time.Minute: {"0", "1"}, delay + 10*time.Minute: {"", "1"}, delay + 15*time.Minute: {"", ""},
	} {
		if got := [2]string{state(at, eu), state(at, us)}; got != want {
			t.Errorf("after %s the pools are %q, want %q", at, got, want)
		}
	}
	// Another zone takes over the name: there is one series, of the later bucket.
	if err := r.give(pools, "4", "wiki.example", "Acme", noon.Add(10*time.Minute), rows(poolHealth, []string{"lb", "us"}, 0)); err != nil {
		t.Fatal(err)
	}
	if page := r.page(noon.Add(delay+10*time.Minute), expo.Text); strings.Count(page, "cloudflare_zone_pool_health_status{") != 1 || state(delay+10*time.Minute, us) != "0" {
		t.Errorf("two zones have had one name:\n%s", page)
	}
	// What cannot be shown is told, and costs itself only.
	if err := r.give(pools, "5", "bad.example", "Acme", noon.Add(15*time.Minute), rows("cloudflare_zone_load_balancer_requests", []string{"lb", "us", "a"}, 1), rows(poolHealth, []string{"lb", "us"}, 1)); err != nil {
		t.Fatal(err)
	}
	old := *pools
	old.Families = slices.Clone(pools.Families)
	old.Families[1].Labels = []string{"load_balancer"}
	e := &bucket.Entry{Kind: bucket.KindBucket, Definition: &old, CommittedAt: noon, Bucket: &bucket.Bucket{
		Key:  bucket.Key{Dataset: "load_balancing_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat("6", 32)}, Start: bucket.TimeOf(noon)},
		Size: 5 * time.Minute, Families: []bucket.Rows{rows(poolHealth, pooled, 1, 1)},
	}}
	if err := r.sink.Entry(e); err == nil || !strings.Contains(err.Error(), poolHealth) {
		t.Errorf("rows that do not fit are accepted: %v", err)
	}
	// A page may be asked long after the last bucket without keeping it for ever.
	give(100, pooled, 1, 1)
	if got := state(delay+10*time.Minute, us); got != "" {
		t.Errorf("a bucket whose turn ended hours ago is held: %s", got)
	}
}

// A family of which no bucket is known is named, and has no sample; it is named again a day after
// its dataset is no longer collected.
func TestMissing(t *testing.T) {
	r := newRig(t)
	if got := len(r.view.Missing(sample.MillisOf(noon))); got != len(compat.Lablabs.Families) {
		t.Errorf("before the first snapshot %d families are missing", got)
	}
	if err := r.give(countries, "3", "wiki.example", "Acme", noon); err != nil {
		t.Fatal(err)
	}
	lacks := func(at time.Duration) bool {
		return strings.Contains(r.page(noon.Add(at), expo.Text), `weir_compat_missing{family="cloudflare_zone_requests_country",dataset="countries"} 1`)
	}
	if lacks(19*time.Minute) || !slices.Contains(r.view.MissingDatasets(sample.MillisOf(noon)), "http") || slices.Contains(r.view.MissingDatasets(sample.MillisOf(noon)), "countries") {
		t.Errorf("an empty bucket is one: %v", r.view.MissingDatasets(sample.MillisOf(noon)))
	}
	if page := r.page(noon.Add(19*time.Minute), expo.Text); strings.Contains(page, "\ncloudflare_") {
		t.Errorf("samples of nothing:\n%s", page)
	}
	if end := 24*time.Hour + 19*time.Minute; lacks(end-time.Second) || !lacks(end) {
		t.Errorf("missing: %t, then %t", lacks(end-time.Second), lacks(end))
	}
}

// Labels that a catalogue file gave a family stay, those that it took away are none, and no two
// series become one.
func TestOtherLabels(t *testing.T) {
	r := newRig(t)
	more := dataset("browsers_5m", bucket.Zone, 5*time.Minute, additive("cloudflare_zone_page_views_by_browser", "browser", "family", "device"))
	less := dataset("asns_5m", bucket.Zone, 5*time.Minute, additive("cloudflare_zone_requests_by_asn", "asn"))
	bare := dataset("logpush_5m", bucket.Zone, 5*time.Minute, additive("cloudflare_zone_logpush_uploads", "job_id"))
	for _, err := range []error{
		r.give(more, "1", "a.example", "Acme", noon, rows("cloudflare_zone_page_views_by_browser", []string{"Chrome", "desktop", "x"}, 1)),
		r.give(less, "1", "a.example", "Acme", noon, rows("cloudflare_zone_requests_by_asn", []string{"64500"}, 1)),
		r.give(bare, "1", "a.example", "Acme", noon, rows("cloudflare_zone_logpush_uploads", []string{"7"}, 1)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	page := r.page(noon.Add(19*time.Minute), expo.Text)
	for _, line := range []string{
		`cloudflare_zone_requests_browser_map_page_views_count{zone="a.example",account="acme",family="Chrome",weir_family="desktop",device="x"} 1`,
		`cloudflare_zone_requests_asn{zone="a.example",account="acme",asn="64500"} 1`,
		`cloudflare_logpush_failed_jobs_zone_count{job_id="7",zone="a.example",account="acme"} 1`,
	} {
		if !strings.Contains(page, "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, page)
		}
	}
}

// A page of some zones or accounts has their lines of the whole page, and no others.
func TestAPageOfASelection(t *testing.T) {
	r := whole(t)
	// With the health of pools, and in the turn of the hour that R2 has.
	for at, gauge := range map[time.Time]string{noon.Add(20 * time.Minute): "cloudflare_zone_pool_health_status{", noon.Add(24 * time.Minute): "cloudflare_r2_storage_bytes{"} {
		r.only = selection.Everything
		all := r.page(at, expo.Text)
		if !strings.Contains(all, gauge) {
			t.Errorf("at %s there is no %s", at, gauge)
		}
		for _, one := range []struct {
			set   selection.Set
			words []string
		}{
			{selection.Set{Zones: []string{"shop.example"}}, []string{`zone="shop.example"`}},
			{selection.Set{Accounts: []string{`Other "One"`}}, []string{`zone="wiki.example"`, `="other-\"one\""`, `="Other \"One\""`, strings.Repeat("a", 32)}},
		} {
			r.only = one.set.Selection()
			var want []string
			for line := range strings.Lines(all) {
				if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "weir_compat_missing") {
					continue
				}
				for _, word := range one.words {
					if strings.Contains(line, word) {
						want = append(want, line)
						break
					}
				}
			}
			var got []string
			for line := range strings.Lines(r.page(at, expo.Text)) {
				if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "weir_compat_missing") {
					got = append(got, line)
				}
			}
			if !slices.Equal(got, want) || len(want) == 0 {
				t.Errorf("%+v at %s:\n%s\nwant\n%s", one.set, at, strings.Join(got, ""), strings.Join(want, ""))
			}
		}
	}
}
