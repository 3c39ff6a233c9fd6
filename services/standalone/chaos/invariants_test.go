package chaos

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/chaos/tsdbtest"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

// settleFor is how long before the end a window must have ended to be final for
// certain: with calm before and after, all that takes time is a suspicion.
const settleFor = 75 * time.Minute

// check holds the end of a world against what must always be true.
func (w *world) check(ctx context.Context) {
	synctest.Wait() // what falls due at this instant too shall be over
	w.prometheus.mirror.update(ctx)
	w.checkLog(ctx)
	w.checkRecord(ctx)
	w.checkTruth()
	for _, name := range collectors {
		w.checkCoverage(name, true)
	}
	w.checkExposers()
	w.counters.look(true)
	w.checkBackfill()
	w.checkRequests(ctx)
	w.checkQuiet()
	w.checkTSDB()
	w.checkBudget()
	w.checkSpared()
}

// checkLog: no writer was let in after its time (G9), and the log ends where
// its head says. That it is gapless, chained and
// without a key twice was checked when the mirror read it (G4, G1).
func (w *world) checkLog(ctx context.Context) {
	for _, breach := range w.store.Breaches() {
		w.report("%s", breach)
	}
	if head, read := w.head(ctx), uint64(w.prometheus.mirror.revision); head != read {
		w.report("the head is revision %d, the log ends at %d", head, read)
	}
}

// checkRecord: whatever a stream ever delivered is what the store holds, and
// the recorder has all of it (G1, G4).
func (w *world) checkRecord(ctx context.Context) {
	log, err := w.store.Log(ctx)
	if err != nil {
		w.report("%v", err)
		return
	}
	r := w.record
	r.mu.Lock()
	defer r.mu.Unlock()
	for revision, chain := range r.chains {
		if revision > uint64(len(log)) {
			w.report("revision %d was shown; the store ends at %d", revision, len(log))
		} else if have := log[revision-1].Chain; string(have[:]) != chain {
			w.report("revision %d was shown with chain %x; the store has %s", revision, chain, have)
		}
	}
	if r.newest != uint64(len(log)) {
		w.report("the recorder is at revision %d at the end, the store at %d", r.newest, len(log))
	}
	// Whatever is late or starved: a leader lives.
	if age := time.Since(r.progress); age > 2*time.Minute {
		w.report("the newest stream time is %s old at the end", age)
	}
}

// checkTruth: every stored bucket holds what happened (G1, G3, G12). Where
// Cloudflare changes values late, it holds what Cloudflare showed when it was
// read, which must have been when only such a change was still to come.
func (w *world) checkTruth() {
	names := zonesByID()
	// One estimate that is much too low may be luck; all of a zone's are not.
	held, happened := map[string]float64{}, map[string]uint64{}
	for _, s := range w.prometheus.mirror.buckets {
		w.tally.buckets++
		w.tally.values += len(s.samples)
		if s.SampleInterval > 1 {
			w.tally.estimates++
		}
		zone := names[s.Scope.ID]
		if s.Scope.Kind == bucket.Account {
			w.checkWorkers(s)
			continue
		}
		if !w.labelled(s.Zone, cfsim.FaultZoneName, []string{s.Scope.ID}, zone, "renamed.example") ||
			!w.labelled(s.Account, cfsim.FaultAccountName, []string{cfsim.Tag("account:retail"), cfsim.Tag("account:labs")}, "Retail", "Labs") {
			w.report("bucket %s is labelled as zone %q of account %q", s.Key, s.Zone, s.Account)
		}
		w.checkVariant(zone, s)
		if w.mutated(s) {
			w.tally.mutated++
			continue
		}
		from, to := s.Start.Std(), s.Window().End.Std()
		totals, err := w.sim.True(s.Scope.ID, from, to)
		if err != nil {
			w.report("truth of %s: %v", s.Key, err)
			continue
		}
		if w.Sampling.Enabled && s.Variant == "adaptive" && s.SampleInterval != 1 {
			held[s.Zone] += requestsIn(s)
			happened[s.Zone] += totals.Requests
		}
		wrong := truth.Differs(s.Bucket, totals)
		if wrong == "" || w.Revisions && w.wasShown(s) {
			continue
		}
		if w.Sampling.Enabled && s.Variant == "adaptive" && s.SampleInterval == 0 && totals.Requests < 150 {
			continue // a sample without a hit; its answer is that of no traffic
		}
		w.report("bucket %s (revision %d, found %s after its end, finality %d, variant %s): %s",
			s.Key, s.revision, s.found.Sub(to).Round(time.Second), s.Finality, s.Variant, wrong)
	}
	for zone, n := range happened {
		if !truth.Near(10)(held[zone], n) {
			w.report("estimates of %s make %v requests together, the truth is %d", zone, held[zone], n)
		}
	}
}

func requestsIn(s *shown) (n float64) {
	for _, rows := range s.Families {
		if rows.Family == "cloudflare_zone_requests" {
			n += rows.Values[0]
		}
	}
	return n
}

// zonesByID are the names of zones and accounts.
func zonesByID() map[string]string {
	names := map[string]string{}
	for _, z := range zoneNames {
		names[cfsim.Tag("zone:"+z)] = z
	}
	for _, a := range accountNames {
		names[accountTag(a)] = a
	}
	return names
}

// wasShown says whether Cloudflare showed a bucket as it is stored when it was read,
// with every part of it settled.
func (w *world) wasShown(s *shown) bool {
	const (
		settled = 5 * time.Minute // without stragglers all has settled after four; the delay is five
		around  = time.Minute     // a reading counts from before it was sent
	)
	read := s.ReadAt.Std()
	if read.After(s.found) {
		return false
	}
	for at := read.Add(-around); !at.After(s.found); at = at.Add(10 * time.Second) { // the reader's clock may have been behind
		if at.Sub(s.Window().End.Std()) < settled {
			continue
		}
		if wrong, err := w.differed(s, at); err == nil && wrong == "" {
			return true
		}
	}
	return false
}

// node answers a variant of a dataset of a size.
func node(variant string, size time.Duration) string {
	switch {
	case size == time.Hour:
		return "httpRequests1hGroups"
	case size == 24*time.Hour:
		return "httpRequests1dGroups"
	case variant == "adaptive":
		return "httpRequestsAdaptiveGroups"
	}
	return "httpRequests1mGroups"
}

// checkCoverage: from the horizon to now less the delay every window is final or
// missing with a reason, at any moment; nothing is lost that could still be had;
// at the end, all windows that are old enough are final, of zones to which
// nothing happens but faults (G2, G3). It returns the reasons of gaps.
func (w *world) checkCoverage(name string, atTheEnd bool) (heard []signal) {
	// A process or store that is away may leave the question unanswered while
	// faults are on; time shall not pass here, or scrapes would be missed.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := w.connect(name)
	if err != nil {
		w.report("%v", err)
		return nil
	}
	defer conn.Close()
	answer, err := bucketv1.NewBucketServiceClient(conn).GetCoverage(ctx, &bucketv1.GetCoverageRequest{})
	switch {
	case err != nil && !atTheEnd:
		return nil
	case err != nil:
		w.report("coverage of %s: %v", name, err)
		return nil
	case len(answer.GetCoverages()) == 0 && atTheEnd:
		w.report("coverage of %s is empty", name)
	}
	w.tally.looks++
	names := zonesByID()
	unread := map[bucket.Key]bool{}
	for _, c := range answer.GetCoverages() {
		zone := names[c.GetScope().GetId()]
		at := c.GetHorizonUnixSeconds()
		if begins := time.Unix(at, 0); lively[zone] && begins.After(w.Began.Add(-w.Lookback+10*time.Minute)) {
			w.report("%s: %s of %s is wanted from %s only", name, c.GetDataset(), zone, begins.UTC())
		}
		for _, r := range c.GetRanges() {
			if r.GetStartUnixSeconds() != at {
				w.report("%s: coverage of %s of %s has a hole or overlap before %s", name, c.GetDataset(), zone, time.Unix(r.GetStartUnixSeconds(), 0).UTC())
			}
			at = r.GetEndUnixSeconds()
			if r.GetState() == bucketv1.CoverageState_COVERAGE_STATE_MISSING && !justDue(c.GetDataset(), r) {
				heard = append(heard, gap(r.GetReason(), zone))
			}
			if r.GetState() == bucketv1.CoverageState_COVERAGE_STATE_UNREADABLE {
				w.readUnreadable(c, r, unread)
				continue
			}
			if r.GetState() == bucketv1.CoverageState_COVERAGE_STATE_ACCEPTED {
				if atTheEnd && !w.prometheus.mirror.accepts(c.GetDataset(), zone, r.GetStartUnixSeconds(), at) {
					w.report("%s: %s of %s from %s is accepted, and nobody did that", name, c.GetDataset(), zone, time.Unix(r.GetStartUnixSeconds(), 0).UTC())
				}
				continue
			}
			if wrong := w.wrongRange(zone, c.GetDataset(), r, atTheEnd); wrong != "" {
				w.report("%s: %s of %s from %s to %s: %s", name, c.GetDataset(), zone,
					time.Unix(r.GetStartUnixSeconds(), 0).UTC().Format(time.RFC3339), time.Unix(at, 0).UTC().Format(time.RFC3339), wrong)
			}
		}
	}
	if atTheEnd {
		w.checkUnreadable(name, unread)
	}
	return heard
}

// connect is a connection to a collector that nothing happens to.
func (w *world) connect(name string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+name+"/grpc", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) { return w.net.dial(ctx, nil, to) }))
}

// problems are what a collector tells of itself, or nothing where it is away.
func (w *world) problems(name string) (heard []signal) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := w.connect(name)
	if err != nil {
		w.report("%v", err)
		return nil
	}
	defer conn.Close()
	answer, err := bucketv1.NewBucketServiceClient(conn).GetStatus(ctx, &bucketv1.GetStatusRequest{})
	if err == nil {
		w.tally.looks++
	}
	for _, p := range answer.GetProblems() {
		heard = append(heard, signal{p.GetCode(), p.GetAbout()})
	}
	if response, err := w.prometheus.http.Get("http://" + name + ":9821/-/ready"); err == nil {
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			heard = append(heard, signal{Code: notReady})
		}
	}
	return heard
}

// wrongRange says what is wrong with a range of coverage.
func (w *world) wrongRange(zone, dataset string, r *bucketv1.CoverageRange, atTheEnd bool) string {
	what := fmt.Sprintf("%s %s %s", r.GetState(), r.GetReason(), r.GetDetail())
	switch r.GetState() {
	case bucketv1.CoverageState_COVERAGE_STATE_FINAL:
		return ""
	case bucketv1.CoverageState_COVERAGE_STATE_LOST:
		// The shortest memory of any plan is a day; no world begins so early.
		return "lost, though Cloudflare still has it: " + what
	case bucketv1.CoverageState_COVERAGE_STATE_MISSING, bucketv1.CoverageState_COVERAGE_STATE_WAITING:
		if r.GetReason() == bucketv1.GapReason_GAP_REASON_UNSPECIFIED {
			return "missing, or waiting, without a reason"
		}
	default:
	}
	started := time.Unix(r.GetStartUnixSeconds(), 0)
	if atTheEnd && !w.Starved && lively[zone] && time.Since(started.Add(truth.Size(dataset))) > settleFor {
		return "not final: " + what
	}
	return ""
}

// justDue reports whether nothing of a range is late: its turn comes within minutes.
func justDue(dataset string, r *bucketv1.CoverageRange) bool {
	const turn = 20 * time.Minute // a day is first read 15 minutes after its end
	return r.GetReason() == bucketv1.GapReason_GAP_REASON_PENDING &&
		time.Since(time.Unix(r.GetStartUnixSeconds(), 0).Add(truth.Size(dataset))) < turn
}

// checkExposers: at the end both are ready and show the head (G5).
func (w *world) checkExposers() {
	for _, name := range exposers {
		got, ok := w.prometheus.fetch(name)
		if !ok {
			w.report("%s does not answer at the end", name)
		} else if got.revision != w.prometheus.mirror.revision {
			w.report("%s is at revision %d at the end, the store at %d", name, got.revision, w.prometheus.mirror.revision)
		} else if got.missing {
			w.report("%s lacks pages that are in turn at the end", name)
		}
	}
}

// checkTSDB: what Prometheus holds are the samples of stored buckets, each as it
// is stored, all that were ever shown to it, and after a quiet round all that have the age
// of the replay, whatever it missed and whenever they became final. A dataset of few windows
// has a round of hours, which no end of a world is long enough for.
func (w *world) checkTSDB() {
	oldest, latest := time.Now().Add(-replay+time.Minute), time.Now().Add(-lastRound)
	p := w.prometheus
	type point struct {
		series int32
		at     int64
	}
	held := map[point]float64{}
	p.head.Each(func(s tsdbtest.Sample) { held[point{s.Series, s.At}] = s.Value })
	w.tally.held += len(held)
	for _, s := range p.mirror.buckets {
		for _, v := range s.samples {
			at := point{v.Series, v.At}
			got, there := held[at]
			switch {
			case there && got != v.Value:
				w.report("Prometheus holds %v of %s in bucket %s, the store %v", got, p.parser.Name(v.Series), s.Key, v.Value)
			case !there && s.scraped:
				w.report("Prometheus lacks %s of bucket %s", p.parser.Name(v.Series), s.Key)
			case !there && !s.damaged && newCarousel(s.Size, p.mirror.depth[s.Dataset]).round() <= lastRound && s.committed.Before(latest) && time.UnixMilli(v.At).After(oldest):
				w.report("Prometheus lacks %s of bucket %s, final since %s, after a quiet round", p.parser.Name(v.Series), s.Key, s.committed)
			}
			delete(held, at)
		}
	}
	for at, v := range held {
		w.report("Prometheus holds %s %v at %s, which is in no bucket", p.parser.Name(at.series), v, time.UnixMilli(at.at).UTC())
	}
}

// checkBudget: in no five minutes more requests than the share, counted by
// whom they are sent to (G7).
func (w *world) checkBudget() {
	c := w.sim.Counters()
	share := int(300 * w.Share)
	if w.swaps() {
		share *= 2 // whose a token is, is not known then
	}
	if c.PeakQueries > share {
		w.report("%d requests to Cloudflare within five minutes; the share is %d", c.PeakQueries, share)
	}
	if c.MaxZones > 10 {
		w.report("a request asked for %d zones", c.MaxZones)
	}
}
