package traffic

import (
	"fmt"
	"regexp"
	"strings"
)

// Expressions are written in PromQL with a few words for the amounts of a family, each
// of which becomes the replay's and the counters' way to ask for it. The variable Source
// selects one of the two: no stored series has the label __source, since Prometheus keeps
// no label whose name begins so, and an absent label is the empty text, which is matched by
// one of the variable's values and not by the other. So one of the two sides is always
// empty, and costs nothing. (The value .* would do in Prometheus, but VictoriaMetrics takes
// !~".*" for !~".+".)
//
//	RATE(family{matchers})   amount per second
//	TOTAL(family{matchers})  amount in the time that the dashboard shows
//	RANK(family{matchers})   the same at every point of a graph, to choose its series by
//	NEWEST(family{matchers}) time at which the newest bucket of the family's zone ended
//	LEVEL(family{matchers})  series of what is no amount, which only the replay has
//
// All narrow a family to the zones and accounts that are selected.
var words = map[string]string{
	"RATE": `(sum_over_time(FAMILY{REPLAY}[$__interval]) / ($__interval_ms / 1000) or rate(FAMILY_total{COUNTERS}[$__rate_interval]))`,
	// What was stored too late for the counter is in a second one, and is part of the total.
	"TOTAL": `(sum_over_time(FAMILY{REPLAY}[$__range]) or increase(FAMILY_total{COUNTERS}[$__range])` +
		` or label_replace(increase(FAMILY_late_total{COUNTERS}[$__range]), "late", "late", "", ""))`,
	"RANK":   `(sum_over_time(FAMILY{REPLAY}[$__range] @ end()) or increase(FAMILY_total{COUNTERS}[$__range] @ end()))`,
	"NEWEST": `(max_over_time(timestamp(FAMILY{REPLAY})[6h:1m]) or max_over_time(weir_bucket_end_timestamp_seconds{dataset=~"http_[0-9]+[mhd]",COUNTERS}[5m]))`,
	"LEVEL":  `FAMILY{SCOPE}`,
}

var word = regexp.MustCompile(`\b(RATE|TOTAL|RANK|NEWEST|LEVEL)\((cloudflare_[a-z0-9_]+)(?:\{([^}]*)\})?\)`)

// spelled writes out the words of an expression.
func spelled(expr string) string {
	return word.ReplaceAllStringFunc(expr, func(w string) string {
		m := word.FindStringSubmatch(w)
		scope := `account=~"$account"`
		if !strings.HasPrefix(m[2], "cloudflare_account_") {
			scope = `zone=~"$zone",` + scope
		}
		if m[3] != "" {
			scope += "," + m[3]
		}
		return strings.NewReplacer(
			"FAMILY", m[2],
			"REPLAY", scope+`,__source=~"$source"`,
			"COUNTERS", scope+`,__source!~"$source"`,
			"SCOPE", scope,
		).Replace(words[m[1]])
	})
}

// sum adds amounts up by labels.
func sum(by, what string) string {
	if by == "" {
		return "sum(" + what + ")"
	}
	return "sum by (" + by + ") (" + what + ")"
}

// share is what part of the whole something is; 0 where there is nothing of it.
func share(by, part, whole string) string {
	return fmt.Sprintf("(%[1]s or 0 * %[2]s) / (%[2]s > 0)", sum(by, part), sum(by, whole))
}

// top limits an expression with a label to its largest values by a family's amount in the
// time that the dashboard shows, the same at every point of the graph.
func top(n int, by, expr, family string) string {
	return fmt.Sprintf("%s and on (%s) topk(%d, %s)", expr, by, n, sum(by, "RANK("+family+")"))
}

// topRate are the largest rates of a family by a label.
func topRate(n int, by, family string) string {
	return top(n, by, sum(by, "RATE("+family+")"), family)
}

// total are the amounts of a family by labels, without zeros: a column of a list.
func total(by, family string) string {
	return sum(by, "TOTAL("+family+")") + " > 0"
}

// largest are the rows of a list with the largest amounts of a family, and beside what
// another column has in these rows.
func largest(n int, by, family string) string {
	return fmt.Sprintf("topk(%d, %s)", n, total(by, family))
}

func beside(n int, by, expr, family string) string {
	return fmt.Sprintf("%s and on (%s) %s", expr, by, largest(n, by, family))
}
