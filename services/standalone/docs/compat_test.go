package docs

import (
	"bytes"
	"testing"

	"github.com/weir-metrics/weir/services/exposer"
)

func TestGeneratedCompat(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(notice + `# The compatibility page

` + "`/counters/compat/lablabs`" + ` of an exposer has Weir's data under the names of lablabs/cloudflare-exporter, with its
labels, types and units. What is built on those names goes on: Grafana's Cloudflare integration (the
cloudflare-mixin of grafana/jsonnet-libs), dashboard 13133 of grafana.com, and alerts of your own. Its counters are
those of [/counters](counters.md), so ` + "`rate`" + ` and ` + "`increase`" + ` are right, which they are not with that exporter.
For what is new, use Weir's own names: [migration.md](migration.md) has them beside theirs.

` + "`WEIR_EXPOSER_COMPAT=lablabs`" + ` turns the page on, in ` + "`weir run`" + ` too. It needs ` + "`WEIR_EXPOSER_COUNTERS`" + `, which is on by
default. In the chart, set ` + "`exposer.settings.WEIR_EXPOSER_COMPAT`" + ` and ` + "`monitoring.compat.enabled`" + `.

## The scrape job

` + "```yaml" + `
scrape_configs:
  - job_name: integrations/cloudflare # what Grafana's integration selects by
    metrics_path: /counters/compat/lablabs
    scrape_interval: 15s # 10 s to 60 s
    scrape_protocols: [PrometheusText0.0.4]
    static_configs:
      - targets: ["127.0.0.1:9810"] # one address, of one exposer or of a Service in front of several
    metric_relabel_configs:
      - {target_label: instance, replacement: weir} # one series whichever exposer answers
` + "```" + `

The page is in text and in OpenMetrics. OpenMetrics has no counters whose names do not end in ` + "`_total`" + `: there, they are
of type unknown, which queries do not notice. In text every family has its type, hence ` + "`scrape_protocols`" + `.

The page answers 503 when ` + "`/counters`" + ` does, and takes the same parameter ` + "`created`" + `. If one Prometheus scrapes
both pages, ` + "`cloudflare_zone_requests_total`" + ` and ` + "`cloudflare_zone_threats_total`" + ` are in both jobs, with the same meaning:
select by ` + "`job`" + `. Do not scrape the page in the job of the other exporter while both run, or sums are double.

## What it collects

` + "`WEIR_PROFILE=lablabs`" + ` collects what the families need, except ` + "`error_paths`" + `, which is an option of theirs too. A family
whose dataset is not collected is not on the page, and never a zero. It is named instead:

- on the page: ` + "`weir_compat_missing{family=\"…\",dataset=\"…\"}`" + `, always 1
- on the landing page, with the datasets
- on the operations port: ` + "`weir_exposer_compat_missing_families`" + `, their number

A family counts as collected from its dataset's first final bucket until a day after the last one was shown.

## What is different

- **All is as it was D ago**: 14 minutes for buckets of five minutes, 69 minutes for those of an hour
  ([counters.md](counters.md#what-a-counter-is)). A panel of both sizes shows different times. Where the breakdowns
  should be as young as the totals, collect them by five minutes: ` + "`WEIR_DATASETS=countries_5m`" + `, at more requests.
- **Gauges** have the value of one final bucket, that of D ago, instead of the last minute's. Without a bucket there is no
  sample.
- **What came late** is not in these counters but in the [late counters](counters.md#late) of ` + "`/counters`" + `.
- **Breakdowns have limits**: the largest series, and the rest in a series ` + "`other`" + `, of which ` + "`region`" + ` is
  ` + "`Unknown`" + `.
- **Labels that theirs lack stay** where a sum over them would be needed. A sum of counters steps back when one of them is
  retired, and Prometheus takes that for a restart. Queries with ` + "`sum by`" + ` are right. The table names these labels.
  Labels that a catalogue file adds to a family stay, too.
- **Accounts** are in lower case with ` + "`-`" + ` for spaces, for R2 as they are, and for Logpush the id: as theirs. Two accounts
  whose names would become one keep their own.
- **Unique visitors** are left out, and so are panels of "repeat visitors" (page views less uniques) empty.

The mixin's panels ask for ` + "`increase(…[$__interval:])`" + `, a subquery. Its steps are Prometheus's ` + "`evaluation_interval`" + `:
with an interval no longer than that it has no result, whichever exporter is scraped.

A page is rendered at each scrape: 100,000 series take about 40 ms of one processor (` + "`BenchmarkPage`" + `).

## Families

`)
	if err := exposer.WriteCompat(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "compat.md", b.String())
}
