package traffic

import "github.com/grafana/grafana-foundation-sdk/go/units"

// amount is a figure: what a family adds up to in the time shown.
func amount(title, family, legend string, datasets []string, shows, normal string) panel {
	return panel{
		title: title, kind: figure, unit: units.Short, datasets: datasets, shows: shows, normal: normal,
		queries: []query{{legend, "sum(TOTAL(" + family + "))", ""}},
	}
}

// part is a figure: the share that a family has in another in the time shown.
func part(title, of, whole string, datasets []string, shows, normal string) panel {
	return panel{
		title: title, kind: figure, unit: units.PercentUnit, datasets: datasets, shows: shows, normal: normal,
		queries: []query{{"share", share("", "TOTAL("+of+")", "TOTAL("+whole+")"), ""}},
	}
}

// failing is the same of errors.
func failing(title, of, whole string, datasets []string, shows, normal string) panel {
	p := part(title, of, whole, datasets, shows, normal)
	p.steps = errors5xx()
	return p
}

// Figures that several dashboards have.

func figureOfRequests() panel {
	return amount("Requests", requests, "requests", http,
		"HTTP requests of end users.", "what it was a day or a week ago at this time.")
}

func figureOfBytes() panel {
	p := amount("Bytes", bytes, "bytes", http, "Bytes sent to end users.", "in step with requests.")
	p.unit = units.BytesSI
	return p
}

func figureOfErrors() panel {
	return failing("Answered 5xx", status+`{status=~"5.."}`, requests, http,
		"Share of the requests that were answered with a status from 500 to 599.", "below 1 %.")
}

func figureOfCache(title, more string) panel {
	return part(title, cached, requests, http,
		"Share of the requests that the cache answered.", "steady; it depends on the site."+more)
}

func figureOfCachedBytes() panel {
	return part("Bytes from cache", "cloudflare_zone_cached_bytes", bytes, http,
		"Share of the bytes that came from the cache.", "steady; it depends on the site.")
}
