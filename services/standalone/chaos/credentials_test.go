package chaos

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cli"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

// Most worlds have two credentials, of two Cloudflare users, one for each account. What
// one of them suffers costs what belongs to the other nothing.

// Names of credentials, and of their accounts.
const (
	retail = "retail"
	labs   = "labs"
)

// Names of the accounts where zones are named too.
const (
	retailAccount = "account " + retail
	labsAccount   = "account " + labs
)

var accountNames = []string{retailAccount, labsAccount}

func accountTag(name string) string {
	return cfsim.Tag("account:" + strings.TrimPrefix(name, "account "))
}

// scope draws the tag of a zone, or of an account if they are collected.
func (d dice) scope(s *schedule) string {
	if s.Workers && d.chance(.2) {
		return accountTag(d.one(accountNames...))
	}
	return cfsim.Tag("zone:" + d.one(zoneNames...))
}

// owned are the lively zones and accounts that belong to a credential.
var owned = map[string][]string{
	retail: {"shop.example", "blog.example", retailAccount},
	labs:   {"api.example", "docs.example", labsAccount},
}

// credential is one that the collectors have.
type credential struct {
	name    string // as in the configuration; the only one has none
	secret  string // of its good token
	account string // tag of the only account that it sees; empty: it sees all
}

// credentials are those of a schedule, in the order of the configuration.
func (s *schedule) credentials() []credential {
	if !s.Several {
		return []credential{{secret: cfsim.DemoToken}}
	}
	all := []credential{
		{retail, "simulated-token-of-retail", cfsim.Tag("account:" + retail)},
		{labs, "simulated-token-of-labs", cfsim.Tag("account:" + labs)},
	}
	if s.Overlap {
		all[1].account = ""
	}
	return all
}

// about is what a problem of a whole credential is about.
func (s *schedule) about(credential, what string) string {
	if !s.Several {
		return what
	}
	return strings.TrimSpace(credential + " " + what)
}

// token is one of the credential's user, with all permissions. All tokens of a
// credential have one id, so that a fault can be about whichever it has.
func (c credential) token(secret string) cfsim.Token {
	t := cfsim.GoodToken(secret)
	t.ID, t.User = tokenID(c.name), cfsim.Tag("user:"+c.name)
	if c.account != "" {
		t.Accounts = []string{c.account}
	}
	return t
}

func tokenID(credential string) string { return cfsim.Tag("token:" + credential) }

// swapped are the tokens of two credentials, each in the other's file.
const swapped = "swapped"

// swaps reports whether tokens of users change places at any time.
func (s *schedule) swaps() bool {
	return slices.ContainsFunc(s.Events, func(e event) bool { return e.Becomes == swapped })
}

// secret is what an event gives a collector as the token of a credential.
func (s *schedule) secret(e event, c credential) string {
	switch e.Becomes {
	case malformed:
		return "two lines\nof something"
	case swapped:
		all := s.credentials()
		return all[(slices.Index(all, c)+1)%len(all)].secret
	}
	return fmt.Sprintf("simulated-token-%d%s%s", e.At, e.Target, c.name)
}

// concerns reports whether an event is about the token of a credential.
func (e event) concerns(c credential) bool {
	return e.Kind == badToken && (e.Credential == "" || e.Credential == c.name)
}

// tokens are those of an event that Cloudflare knows.
func (s *schedule) tokens(e event) (all []cfsim.Token) {
	ill, known := ills[e.Becomes]
	if !known {
		return nil
	}
	for _, c := range s.credentials() {
		if e.concerns(c) {
			t := c.token(s.secret(e, c))
			ill(&t, e.Zone, s.Began.Add(e.At), s.Began.Add(e.At+e.For))
			all = append(all, t)
		}
	}
	return all
}

// provide puts the tokens of the moment where a process looks for them: those of
// the newest events.
func (w *world) provide(p *process) {
	trouble := p.trouble()
	for _, c := range w.credentials() {
		secret := c.secret
		for _, e := range slices.Backward(trouble) {
			if e.concerns(c) {
				secret = w.secret(e, c)
				break
			}
		}
		next := p.file(c) + ".next"
		err := os.WriteFile(next, []byte(secret), 0o600)
		if err == nil {
			err = os.Rename(next, p.file(c)) // nobody shall find half of it
		}
		if err != nil {
			w.report("%v", err)
		}
	}
}

// file holds the token of a credential.
func (s *surroundings) file(c credential) string { return s.tokens + "-" + c.name }

// hold configures the credentials of a collector.
func (w *world) hold(config *collector.Config, s *surroundings) (err error) {
	all := w.credentials()
	if len(all) == 1 {
		config.Token, err = cli.ReadSecret(s.file(all[0]))
		return err
	}
	for _, c := range all {
		config.Credentials = append(config.Credentials, collector.Credential{Name: c.name, TokenFile: s.file(c)})
	}
	return nil
}

// apart draws a fault of Cloudflare that one credential alone meets.
func (d dice) apart(s *schedule, e *event) {
	if !s.Several {
		return
	}
	e.Kind, e.For = api, d.skewed(time.Minute, time.Hour)
	d.breaks(e, d.one(retail, labs))
	if d.chance(.4) {
		e.Fault.Probability = .1 + .9*d.Float64()
	}
	if e.Fault.Kind == cfsim.FaultBudget {
		e.For = min(e.For, 20*time.Minute)
	}
}

// breaks draws what keeps Cloudflare from answering one credential.
func (d dice) breaks(e *event, credential string) {
	f := &e.Fault
	f.Kind = []cfsim.FaultKind{
		cfsim.FaultSlow, cfsim.FaultSlow, cfsim.FaultSlow, cfsim.FaultDrip, cfsim.FaultReset, cfsim.FaultBusy, cfsim.FaultHTML, cfsim.FaultTruncated,
		cfsim.FaultBudget, cfsim.FaultBudget,
	}[d.IntN(10)]
	f.Token, f.Path = tokenID(credential), d.one("", "/graphql", "/graphql")
	switch f.Kind {
	case cfsim.FaultSlow, cfsim.FaultDrip:
		f.Delay = d.between(31*time.Second, 90*time.Second) // nobody waits for so long
	case cfsim.FaultHTML:
		f.Status = []int{500, 502, 503, 520, 522, 524}[d.IntN(6)]
	}
}

// stageApart puts a fault on the stage that one credential alone meets.
func (d dice) stageApart(s *schedule, e *event) {
	of := d.one(retail, labs)
	zone := owned[of][d.IntN(2)]
	switch d.IntN(4) {
	case 0:
		e.Kind, e.Becomes, e.Credential = badToken, d.one("disabled", "unknown"), of
		e.Signals = []signal{{Code: "TOKEN_REFUSED", About: of}, gap(bucketv1.GapReason_GAP_REASON_UNAUTHORIZED, zone)}
	case 1: // neither its zones nor its accounts are in any list
		e.Kind, e.Becomes, e.Credential = badToken, "absent", of
		s.Overlap = false // or they move to the other credential, and nothing is missing
		e.Signals, e.Quiet = []signal{{Code: "ZONES_UNLISTED", About: of}, {Code: anyGap, About: zone}}, 75*time.Minute
	default:
		e.Kind = api
		d.breaks(e, of)
		e.Signals = []signal{{Code: anyGap, About: zone}}
		if e.Fault.Kind != cfsim.FaultBudget {
			e.Signals = append(e.Signals, signal{Code: "UPSTREAM_FAILING", About: of})
		}
	}
}

// echo is for how long after its end a fault may still be felt.
func (e event) echo() time.Duration {
	if e.Becomes == swapped {
		return 2 * time.Hour // lists are read again within the hour, what was denied is asked for within another
	}
	return overWithin
}

// spares reports whether a staged fault is about others than a lively zone or account.
func (e event) spares(scope string) bool {
	whose := e.Credential
	for c := range owned {
		if e.Fault.Token == tokenID(c) {
			whose = c
		}
	}
	switch {
	case !lively[scope]:
		return false
	case whose != "":
		return !slices.Contains(owned[whose], scope)
	case e.Kind == api && e.Fault.Zone != "" && !mutatesNames(e.Fault.Kind):
		return zonesByID()[e.Fault.Zone] != scope
	}
	return false
}

// sparedWithin is after how long a bucket of five minutes is stored that a staged fault
// is not about: six minutes are usual, stragglers take up to three more, and requests of
// another credential that hang up to three.
const sparedWithin = 12 * time.Minute

// checkSpared: while one zone or credential is broken, the buckets of the others are
// stored as early as ever.
func (w *world) checkSpared() {
	p := w.stage
	if p == nil {
		return
	}
	names := zonesByID()
	from, to := w.Began.Add(p.At), w.Began.Add(p.At+p.For-sparedWithin)
	for _, s := range w.prometheus.mirror.buckets {
		end, scope := s.Window().End.Std(), names[s.Scope.ID]
		if s.Size != fiveMinutes || end.Before(from) || end.After(to) || !p.spares(scope) || w.halted(end) {
			continue
		}
		late := s.committed.Sub(end)
		w.tally.hear("spared, stored after its end: "+w.tally.class(p.event), late)
		if late > sparedWithin {
			w.report("bucket %s of %s is stored %s after its end, during %s", s.Key, scope, late.Round(time.Second), p.event)
		}
	}
}

// halted reports whether no collector ran when a window fell due.
func (w *world) halted(end time.Time) bool {
	return slices.ContainsFunc(w.Events, func(e event) bool {
		at := w.Began.Add(e.At)
		return e.Kind == poison && at.After(end.Add(-5*time.Minute)) && at.Before(end.Add(sparedWithin))
	})
}

func (t *tally) class(e event) string {
	switch {
	case e.Fault.Token != "":
		return "credential " + string(e.Fault.Kind)
	case e.Credential != "":
		return "credential " + e.Becomes
	}
	return "zone"
}

// checkWorkers: a bucket of an account holds what its Workers did.
func (w *world) checkWorkers(s *shown) {
	name := zonesByID()[s.Scope.ID]
	if s.Zone != "" || !w.labelled(s.Account, cfsim.FaultAccountName, []string{s.Scope.ID}, map[string]string{retailAccount: "Retail", labsAccount: "Labs"}[name]) {
		w.report("bucket %s of %s is labelled as zone %q of account %q", s.Key, name, s.Zone, s.Account)
	}
	w.tally.ofAccounts++
	if w.mutated(s) {
		w.tally.mutated++
		return
	}
	from, to := s.Start.Std(), s.Window().End.Std()
	happened, err := w.sim.TrueWorkers(s.Scope.ID, from, to)
	if err != nil {
		w.report("truth of %s: %v", s.Key, err)
		return
	}
	wrong := truth.WorkersDiffer(s.Bucket, happened)
	if wrong == "" || w.Revisions && w.wasShown(s) {
		return
	}
	n := uint64(0)
	for _, one := range happened {
		n += one.Requests
	}
	if w.Sampling.Enabled && s.SampleInterval == 0 && n < 150 {
		return // a sample without a hit
	}
	w.report("bucket %s of %s (revision %d, found %s after its end, finality %d): %s", s.Key, name, s.revision, s.found.Sub(to).Round(time.Second), s.Finality, wrong)
}

// differed says how a bucket differs from what was to be seen of its scope at an instant.
func (w *world) differed(s *shown, at time.Time) (string, error) {
	from, to := s.Start.Std(), s.Window().End.Std()
	if s.Scope.Kind == bucket.Account {
		all, err := w.sim.ShownWorkers(s.Scope.ID, from, to, at)
		return truth.WorkersDiffer(s.Bucket, all), err
	}
	totals, err := w.sim.Shown(s.Scope.ID, node(s.Variant, s.Size), from, to, at)
	return truth.Differs(s.Bucket, totals), err
}
