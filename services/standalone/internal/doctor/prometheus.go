package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// margin is by how much the out-of-order window exceeds the age of what is shown:
	// other targets may run ahead of now, and the window counts from the newest sample.
	margin = 2 * time.Hour
	// pageShown is how long a page of older windows is shown.
	pageShown = 5 * time.Minute
	// victoriaBody is the default of -promscrape.maxScrapeSize.
	victoriaBody = 16 << 20
)

// victoria reports whether it is a VictoriaMetrics, of which not everything can be asked.
func (p *Prometheus) victoria() bool { return p.Kind == KindVictoria }

const givePrometheus = "WEIR_PROMETHEUS_URL, such as http://127.0.0.1:9090"

func prometheus(o *Observed) []Finding {
	s := &subject{Observed: o}
	switch {
	case o.Prometheus == nil:
		return skipArea("prometheus", "no Prometheus was given", givePrometheus)
	case o.Prometheus.Err != nil:
		return append(s.judge("prometheus.reachable"), skipEach(area("prometheus")[1:], "it does not answer", givePrometheus)...)
	}
	return s.judge(area("prometheus")...)
}

func prometheusReachable(s *subject) []Finding {
	p := s.Prometheus
	if p.Err != nil {
		return about(p.URL, fail(p.Err.Error(), "Nothing that is about Prometheus could be checked.",
			"Give the URL under which /api/v1/query responds. If it asks for a credential, give WEIR_PROMETHEUS_HTTP_CONFIG_FILE. If it warns that samples may be missing, see that all stores that it asks answer."))
	}
	return about(p.URL, pass("%s answers queries", p.Kind))
}

func version(s *subject) []Finding {
	p := s.Prometheus
	found := p.Kind + " " + p.Version
	v, known := numbers(p.Version)
	switch {
	case !known:
		return warn(found, "The version cannot be read, so it cannot be compared.", "")
	case p.victoria() && slices.Compare(v[:], []int{1, 79, 0}) < 0:
		return warn(found, "Weir is not tested with it.", "Use VictoriaMetrics 1.79 or newer.")
	case !p.victoria() && slices.Compare(v[:], []int{2, 39, 0}) < 0:
		return fail(found, "It has no out-of-order window, so it does not store what is older than an hour.", "Use Prometheus 2.39 or newer.")
	case !p.victoria() && (v[0] == 2 && (v[1] == 52 || v[1] == 53 && v[2] <= 2) || v == [3]int{2, 54, 0}):
		return fail(found, "It refuses several samples of a series in one scrape.", "Use another version: not 2.52.0 to 2.53.2, and not 2.54.0.")
	default:
		return pass("%s", found)
	}
}

// numbers are the parts of a version.
func numbers(version string) (v [3]int, ok bool) {
	text, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	text, _, _ = strings.Cut(text, "+")
	for i, part := range strings.SplitN(text, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, text != ""
}

func targets(s *subject) []Finding {
	p := s.Prometheus
	var down, unknown []string
	for _, t := range p.Targets {
		text := t.URL
		if t.LastError != "" {
			text += " (" + t.LastError + ")"
		}
		switch t.Health {
		case "up":
		case "unknown":
			unknown = append(unknown, text)
		default:
			down = append(down, text)
		}
	}
	switch {
	case p.TargetsErr != nil:
		return warn("targets cannot be listed: "+p.TargetsErr.Error(), "Whether Weir is scraped is not known.", "Give the URL of the Prometheus that scrapes, not of a query layer.")
	case len(p.Targets) == 0:
		return fail(fmt.Sprintf("there is no target of job %q; the jobs are: %s", p.Job, cmp.Or(some(p.Others), "none")), "Prometheus does not scrape Weir's data, or the job has another name.",
			"Add the job of deploy/prometheus/prometheus.yml, or name the job with WEIR_PROMETHEUS_JOB.")
	case len(down) > 0:
		fix := "Read the error. See WeirTargetDown in docs/operations.md."
		if strings.Contains(some(down), "too old sample") {
			fix = "The out-of-order window is shorter than the replay: see prometheus.out_of_order_window."
		}
		return fail(some(down), "These scrapes fail, and nothing of them is stored.", fix)
	case len(unknown) > 0:
		return warn(some(unknown)+" was not scraped yet", "", "Run it again in a minute.")
	default:
		return pass("all targets of job %q are up (%d)", p.Job, len(p.Targets))
	}
}

// scrapedStore compares the store that the job's targets serve with the one that was
// asked. Two installations for the same zones have the same samples: nothing else tells
// that this Prometheus has them from the other.
func scrapedStore(s *subject) []Finding {
	const fix = "Let the job of this Prometheus scrape the exposers of this installation, or give the doctor the collector, store and exposers that it scrapes."
	p := s.Prometheus
	want, of := s.asked()
	if want == "" {
		return skip("the store is not known with which its targets are compared", giveCollector+", or WEIR_EXPOSER_URLS")
	}
	if p.TargetsErr == nil && len(p.Targets) == 0 {
		return skip(fmt.Sprintf("job %q has no target", p.Job), "WEIR_PROMETHEUS_JOB, the job_name of Weir's data")
	}
	var other, unknown []string
	for _, t := range p.Targets {
		switch {
		case t.StoreErr != nil:
			unknown = append(unknown, fmt.Sprintf("%s (%v)", t.URL, t.StoreErr))
		case t.Store != want:
			other = append(other, fmt.Sprintf("%s serves store %s", t.URL, t.Store))
		}
	}
	if len(other) == 0 && (len(unknown) > 0 || len(p.Targets) == 0) {
		for _, id := range p.Stores { // what cannot be asked from here tells Prometheus
			if id != want {
				other = append(other, "it scrapes an exposer of store "+id+" (weir_exposer_store_info)")
			}
		}
	}
	const means = "The samples of this Prometheus are not from the store that was examined, and it keeps none of that store's."
	switch {
	case len(other) > 0:
		return fail(fmt.Sprintf("%s; %s has store %s", some(other), of, want), means, fix)
	case len(p.Stores) == 1 && (len(unknown) > 0 || len(p.Targets) == 0):
		return pass("the exposers whose metrics it scrapes serve store %s, that of %s", want, of)
	case len(unknown) > 0:
		return warn("these targets cannot be asked from here which store they serve: "+some(unknown), "It may scrape another installation, with the same samples.",
			"Run it where the targets can be reached, or let this Prometheus scrape the operations ports of its exposers, whose weir_exposer_store_info says it.")
	case len(p.Targets) == 0:
		return warn("its targets are not known, and it has no weir_exposer_store_info", "It may scrape another installation, with the same samples.",
			"Let it scrape the operations ports of its exposers, whose weir_exposer_store_info says which store they serve.")
	default:
		return pass("all targets of job %q serve store %s, that of %s", p.Job, want, of)
	}
}

func window(s *subject) []Finding {
	p := s.Prometheus
	replay, known := s.Replay()
	const give = "WEIR_EXPOSER_URLS, which say how old samples can be"
	switch {
	case p.victoria():
		return pass("VictoriaMetrics takes samples of any age within its retention")
	case p.ConfigErr != nil:
		return warn("the configuration in force cannot be read: "+p.ConfigErr.Error(), "Whether it takes older samples is not known.", "Give the URL of the Prometheus that scrapes, not of a query layer.")
	case !known:
		return skip(fmt.Sprintf("the window is %s; the age of what is shown is not known", span(p.Window)), give)
	case replay == 0:
		return pass("the job asks for the newest bucket only (replay_hours=0)")
	case p.Window < replay+margin:
		return fail(fmt.Sprintf("the window is %s; samples are up to %s old", span(p.Window), span(replay)),
			"Prometheus drops samples that are older than the window, or the whole scrape, and nothing looks wrong between rounds.",
			fmt.Sprintf("Set storage.tsdb.out_of_order_time_window to at least %s and reload. 30h is usual for 24 hours.", span(replay+margin)))
	default:
		return pass("the window is %s; samples are up to %s old", span(p.Window), span(replay))
	}
}

// noJob skips what is a setting of the job if the job is not known.
func noJob(p *Prometheus) []Finding {
	why := fmt.Sprintf("job %q is not in the configuration", p.Job)
	if p.ConfigErr != nil {
		why = "the configuration in force cannot be read"
	}
	return skip(why, "WEIR_PROMETHEUS_JOB, the job_name of Weir's data")
}

func honorTimestamps(s *subject) []Finding {
	switch p := s.Prometheus; {
	case p.Config == nil:
		return noJob(p)
	case !p.Config.HonorTimestamps:
		return fail("honor_timestamps is false", "Every sample gets the time of the scrape: one is stored, at the wrong time, and the others are dropped.", "Set honor_timestamps: true in the job.")
	default:
		return pass("honor_timestamps is true")
	}
}

func staleMarkers(s *subject) []Finding {
	p := s.Prometheus
	if p.Config == nil {
		return noJob(p)
	}
	switch _, quiet := p.Flags["promscrape.noStaleMarkers"]; {
	case p.victoria() && p.FlagsErr != nil:
		return warn("the flags cannot be read: "+p.FlagsErr.Error(), "Whether stale markers are written is not known.", "Start it with -promscrape.noStaleMarkers.")
	case p.victoria() && (!quiet || p.Flags["promscrape.noStaleMarkers"] == "false"):
		return warn("-promscrape.noStaleMarkers is not set", "After a failed scrape, stale markers hide the newest buckets.", "Start it with -promscrape.noStaleMarkers.")
	case p.Config.TrackStaleness:
		return fail("track_timestamps_staleness is true", "A series that leaves the body gets a stale marker at the time of the scrape, and later buckets are older than the marker.", "Remove track_timestamps_staleness from the job.")
	default:
		return pass("no stale markers are written for samples with timestamps")
	}
}

func interval(s *subject) []Finding {
	switch p := s.Prometheus; {
	case p.Config == nil:
		return noJob(p)
	case p.Config.Interval >= pageShown:
		return fail("the scrape interval is "+span(p.Config.Interval), "A page of older windows is shown for five minutes: some are never scraped.", "Set scrape_interval: 1m in the job.")
	case p.Config.Interval > time.Minute:
		return warn("the scrape interval is "+span(p.Config.Interval), "A page of older windows is shown for five minutes: few failed scrapes are enough to miss one.", "Set scrape_interval: 1m in the job.")
	default:
		return pass("the scrape interval is %s", span(p.Config.Interval))
	}
}

func limits(s *subject) []Finding {
	p := s.Prometheus
	var body int64
	samples := 0
	for _, x := range s.Exposers {
		body, samples = max(body, x.Bytes), max(samples, x.Samples)
	}
	switch {
	case p.Config == nil:
		return skip("the job's limits are not known", "WEIR_PROMETHEUS_JOB, and a Prometheus that shows its configuration")
	case body == 0:
		return skip("the size of what is scraped is not known", "WEIR_EXPOSER_URLS")
	}
	limit, name := p.Config.BodyLimit, "body_size_limit"
	if p.victoria() && limit == 0 {
		limit, name = victoriaBody, "-promscrape.maxScrapeSize"
		if given, ok := size(p.Flags["promscrape.maxScrapeSize"]); ok {
			limit = given
		}
	}
	served := fmt.Sprintf("the exposer serves %s and %d samples", bytes(body), samples)
	most := p.Config.SampleLimit
	switch {
	case limit > 0 && body > limit:
		return fail(fmt.Sprintf("%s; %s is %s", served, name, bytes(limit)), "The whole scrape fails.", "Raise "+name+"; 64MB is ample for the exposer's own limit of 100,000 samples.")
	case most > 0 && int64(samples) > most:
		return fail(fmt.Sprintf("%s; sample_limit is %d", served, most), "The whole scrape fails. It counts samples, not series.", "Remove sample_limit from the job: the exposer has its own limits.")
	case most > 0:
		return warn(fmt.Sprintf("%s; sample_limit is %d", served, most), "A page of older windows can exceed it, and the whole scrape then fails. It counts samples, not series.", "Remove sample_limit from the job: the exposer has its own limits.")
	case limit > 0 && 2*body > limit:
		return warn(fmt.Sprintf("%s; %s is %s", served, name, bytes(limit)), "A page of older windows, or more zones, can exceed it, and the whole scrape then fails.", "Raise "+name+".")
	case limit > 0:
		return pass("%s; %s is %s, without a limit on samples", served, name, bytes(limit))
	default:
		return pass("%s; there is no limit", served)
	}
}

// size reads a number of bytes as VictoriaMetrics's flags have it.
func size(text string) (int64, bool) {
	units := []struct {
		suffix string
		factor int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"", 1}}
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if n, err := strconv.ParseFloat(number, 64); ok && err == nil && n > 0 {
			return int64(n * float64(u.factor)), true
		}
	}
	return 0, false
}

func duplicates(s *subject) []Finding {
	p := s.Prometheus
	switch {
	case p.DuplicatesErr != nil:
		return fail(p.DuplicatesErr.Error(), "Whether series are stored more than once is not known.", "See prometheus.reachable.")
	case len(p.Duplicates) > 0:
		return fail(some(p.Duplicates), "A sum over zones counts these series more than once.",
			"Give all targets of the job one instance with metric_relabel_configs (deploy/prometheus/prometheus.yml has it), and let one job scrape them. Old series end after a while.")
	default:
		return pass("no series of the last two hours is stored under several values of instance or job")
	}
}

func refused(s *subject) []Finding {
	p := s.Prometheus
	var list []string
	for _, name := range slices.Sorted(maps.Keys(p.Refused)) {
		if v := p.Refused[name]; v > 0 {
			list = append(list, fmt.Sprintf("%s: %.0f", name, v))
		}
	}
	since := "since it started"
	if p.SelfScraped {
		since = "in the last hour"
	}
	switch {
	case p.RefusedErr != nil:
		return warn("its own metrics cannot be read: "+p.RefusedErr.Error(), "Whether it refuses samples is not known.", "")
	case len(list) > 0:
		return warn(since+": "+strings.Join(list, ", "), "It refused samples, of Weir or of another target; the counters do not say which.",
			"Its log names the target (scrape_pool). See WeirSamplesRefused and WeirSamplesConflict in docs/operations.md.")
	case !p.SelfScraped && !p.victoria():
		return warn("it refused no sample since it started, and it does not scrape itself", "The alerts on refused samples need its own metrics.", "Add a job that scrapes Prometheus itself (deploy/prometheus/prometheus.yml has it).")
	default:
		return pass("it refused no sample %s", since)
	}
}

func dedup(s *subject) []Finding {
	p := s.Prometheus
	at := p.Flags["dedup.minScrapeInterval"]
	switch {
	case !p.victoria():
		return pass("Prometheus stores a repeated sample once")
	case p.FlagsErr != nil:
		return warn("the flags cannot be read: "+p.FlagsErr.Error(), "Without deduplication each repeat of a sample counts again.", "Start it with -dedup.minScrapeInterval=1ms.")
	case at == "" || at == "0" || at == "0s":
		return fail("-dedup.minScrapeInterval is not set", "Each repeat of a sample is stored and counts again: sums are many times too high.", "Start it with -dedup.minScrapeInterval=1ms.")
	default:
		if d, err := time.ParseDuration(at); err == nil && d > time.Minute {
			return fail("-dedup.minScrapeInterval is "+at, "Of several buckets within that time one is kept.", "Start it with -dedup.minScrapeInterval=1ms.")
		}
		return pass("-dedup.minScrapeInterval is %s", at)
	}
}
