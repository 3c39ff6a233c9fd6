package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
)

var statusPictures = flag.String("status.pictures", "", "write pictures of the status page of TestStatusPageInABrowser into this folder")

// viewer looks at one exposer's status page.
type viewer struct {
	*browser
	base string
}

// picture keeps what the browser shows, if pictures are wanted.
func (v *viewer) picture(name string) {
	v.t.Helper()
	if *statusPictures != "" {
		v.do("shot", options{"value": filepath.Join(*statusPictures, name+".png")})
	}
}

var phone = options{"width": 390, "height": 844, "dark": true}

// The status page in a real browser: what it shows of a healthy installation, of a zone that
// is refused, without a collector, and with a token that is refused.
func TestStatusPageInABrowser(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	c := cfsim.Sized(clock.System(), 11, 28, nil)
	c.Tokens = []cfsim.Token{cfsim.GoodToken(apiToken)}
	sim := simulateAs(t, nil, c)
	if _, err := sim.Inject(cfsim.Fault{Kind: cfsim.FaultZonesDenied, Zone: cfsim.Tag("zone:blog.example")}); err != nil {
		t.Fatal(err)
	}
	collector := sim.startCollector(t, "WEIR_DISABLE_DATASETS=countries_1h,content_types_1h")
	exposer := startExposerBinary(t, nil, collector)
	exposer.ready()
	v := &viewer{b, "http://" + exposer.data}
	v.until(func(s statusJSON) error {
		if len(s.Scopes) != 20 || s.Pages != 2 {
			return fmt.Errorf("%d zones on %d pages", len(s.Scopes), s.Pages)
		}
		if sc := s.scope("shop.example"); sc.State != "active" || len(sc.Series) != 3 || sc.Series[0].Windows["final"] == 0 {
			return fmt.Errorf("shop.example is %+v", sc)
		}
		if !s.has("PROBLEMS") {
			return errors.New("the refused zone is no problem yet")
		}
		return nil
	})
	v.looks()
	v.searches()
	v.refreshes()
	v.worksWithoutScript()
	v.explainsAZone()
	v.filters()
	v.landing()

	collector.stop()
	v.open(v.base+"/status", nil)
	v.becomes("COLLECTOR_AWAY", "shop.example")
	v.sound("without a collector")
	v.picture("away")
	if _, err := sim.Inject(cfsim.Fault{Kind: cfsim.FaultTokenInvalid}); err != nil {
		t.Fatal(err)
	}
	collector.again()
	v.becomes("TOKEN_REFUSED", "shop.example")
	v.quiet("with a refused token")
	v.picture("refused")
	v.open(v.base+"/status", phone)
	v.picture("refused-phone")

	exposer.stop() // the page is open, and cannot be refreshed
	v.do("press", options{"value": "r"})
	v.do("await", options{"at": "#stale", "value": "could not be refreshed"})
	v.quiet("without an exposer", "console: Failed to load resource")
}

// looks checks the overview, in both colour schemes.
func (v *viewer) looks() {
	v.t.Helper()
	v.open(v.base+"/status", nil)
	body := v.text("main")
	for _, want := range []string{"Needs attention", "collector-0", "http_5m", "shop.example", "28 match, page 1 of 2", "ZONE_DENIED", "Legend"} {
		if !strings.Contains(body, want) {
			v.t.Errorf("the overview lacks %q:\n%s", want, body)
		}
	}
	v.uncut("the overview")
	v.sound("the overview")
	v.picture("overview")
	v.open(v.base+"/status", phone)
	v.sound("the overview on a phone")
	v.picture("overview-phone")
}

// uncut checks that no table has columns that are seen only after scrolling.
func (v *viewer) uncut(what string) {
	v.t.Helper()
	if cut := v.eval("[...document.querySelectorAll('.scroll')].filter((s) => s.scrollWidth > s.clientWidth).length"); cut != 0.0 {
		v.t.Errorf("%s: %v tables are wider than a page of 1280 pixels, so that their last columns are not seen", what, cut)
	}
}

// filters finds the zone in trouble among all, by keyboard and without script, and checks that
// zones of the second page are counted on the first.
func (v *viewer) filters() {
	v.t.Helper()
	v.until(func(s statusJSON) error {
		if s.ByState["missing"] != 1 {
			return fmt.Errorf("the survey is still %v", s.ByState)
		}
		return nil
	})
	v.open(v.base+"/status?page=2", nil)
	if got := v.text("#states"); !strings.Contains(got, "all 28") || !strings.Contains(got, "with problems ") || !strings.Contains(got, "missing 1") || !strings.Contains(got, "none of these ") {
		v.t.Errorf("the second page counts %q, want the refused zone of the first", got)
	}
	v.eval("document.getElementById('show').focus(), null")
	v.do("press", options{"value": "w"}) // "with problems" is the first choice with this letter
	v.do("press", options{"value": "Tab"})
	v.do("press", options{"value": "Tab"})
	v.do("press", options{"value": "Tab"})
	v.do("press", options{"value": "Enter"})
	v.do("await", options{"at": "#matches", "value": "the worst first"})
	if got := v.eval("document.querySelector('.scopes th a').textContent"); got != "blog.example" {
		v.t.Errorf("the worst zone is %v, want the one that is refused", got)
	}
	if got := v.eval("document.querySelector('#states [aria-current]').textContent"); !strings.HasPrefix(fmt.Sprint(got), "with problems") {
		v.t.Errorf("the present choice is %v", got)
	}
	v.do("click", options{"at": "#states a[href*='show=missing']"})
	v.do("await", options{"at": "#matches", "value": "1 match, the worst first, page 1 of 1"})
	v.sound("the zones with missing windows")
	v.picture("missing")
	v.open(v.base+"/status?show=missing&page=7", options{"script": false})
	if got := v.text("#matches"); !strings.Contains(got, "There is no page 7") {
		v.t.Errorf("a page after the last says %q", got)
	}
	v.do("click", options{"at": "#states li:first-child a"})
	v.do("await", options{"at": "#matches", "value": "28 match, page 1 of 2"})
	for name, screen := range map[string]options{"problems-dark": {"dark": true}, "problems-phone": phone} {
		v.open(v.base+"/status?show=problems", screen)
		v.sound(name)
		v.picture(name)
	}
}

// landing checks the page before the status page.
func (v *viewer) landing() {
	v.t.Helper()
	v.open(v.base+"/", nil)
	v.uncut("the landing page")
	v.sound("the landing page")
	v.picture("landing")
	v.open(v.base+"/", phone)
	v.sound("the landing page on a phone")
	v.picture("landing-phone")
}

func (v *viewer) searches() {
	v.t.Helper()
	v.open(v.base+"/status", nil)
	v.do("press", options{"value": "/"})
	if at := v.eval("document.activeElement.id"); at != "q" {
		v.t.Errorf("the key / leads to %v, want the search", at)
	}
	v.do("fill", options{"at": "#q", "value": "zone-00017"})
	v.do("press", options{"value": "Enter"})
	v.do("await", options{"at": "#matches", "value": "1 match"})
	if n := v.do("count", options{"at": ".scopes a"}); n != 1.0 {
		v.t.Errorf("%v zones are found, want one", n)
	}
	v.do("click", options{"at": ".brand"})
	v.do("await", options{"at": "#matches", "value": "28 match"})
	v.do("press", options{"value": "n"})
	v.do("await", options{"at": "#matches", "value": "page 2 of 2"})
	v.quiet("search and pages")
}

// refreshes checks that a refresh, also the one by itself, shows something new and leaves what
// the reader does.
func (v *viewer) refreshes() {
	v.t.Helper()
	v.open(v.base+"/status", options{"height": 500, "clock": true})
	before := v.text("footer")
	v.do("fill", options{"at": "#q", "value": "half a wo"})
	v.eval("scrollTo(0, 700), document.getElementById('q').setSelectionRange(2, 4), null")
	v.do("pass", options{"value": 31})
	testkit.Eventually(v.t, func() error {
		if v.text("footer") == before {
			return errors.New("the page has not refreshed itself")
		}
		return nil
	})
	got := fmt.Sprint(v.eval("[document.activeElement.id, document.activeElement.value, document.activeElement.selectionStart, scrollY]"))
	if want := "[q half a wo 2 700]"; got != want {
		v.t.Errorf("after a refresh the reader is at %s, want %s", got, want)
	}
	v.do("click", options{"at": "#refresh"})
	v.do("await", options{"at": "#live", "value": "Refreshed."})
	v.do("click", options{"at": "#pause"})
	paused := v.text("footer")
	v.do("pass", options{"value": 120})
	if now := v.text("footer"); now != paused {
		v.t.Errorf("while refresh is paused the page went from %q to %q", paused, now)
	}
	v.quiet("refresh")
}

func (v *viewer) worksWithoutScript() {
	v.t.Helper()
	v.open(v.base+"/status?page=2", options{"script": false})
	if got := v.text("#matches"); !strings.Contains(got, "page 2 of 2") {
		v.t.Errorf("without script the second page says %q", got)
	}
	v.do("fill", options{"at": "#q", "value": "shop"})
	v.do("click", options{"at": "#go"})
	v.do("await", options{"at": "#matches", "value": "1 match"})
}

// explainsAZone checks the page that answers why a zone is not collected.
func (v *viewer) explainsAZone() {
	v.t.Helper()
	v.open(v.base+"/status?q=blog.example", nil)
	v.do("click", options{"at": ".scopes a"})
	v.do("await", options{"at": "#verdict", "value": "Zone Analytics Read"})
	body := v.text("main")
	for _, want := range []string{"Zone blog.example", "ZONE_DENIED", `zone="blog.example"`, "settings have not been read yet", "settings cannot be read: ", "Next attempt"} {
		if !strings.Contains(body, want) {
			v.t.Errorf("the page of a refused zone lacks %q:\n%s", want, body)
		}
	}
	v.sound("the page of a zone")
	v.picture("zone")
	v.open(v.base+"/status/scope?zone=blog.example&range=retention", phone)
	v.sound("the page of a zone on a phone")
	v.picture("zone-phone")
}

// becomes waits until the collector's state needs attention for a reason, and refreshes the
// open page, which then says it beside what it said before.
func (v *viewer) becomes(code string, texts ...string) {
	v.t.Helper()
	v.until(func(s statusJSON) error {
		if !s.has(code) {
			return fmt.Errorf("attention is on %v, want %s", s.Attention, code)
		}
		return nil
	})
	v.do("click", options{"at": "#refresh"})
	v.do("await", options{"at": "main", "value": code})
	body := v.text("main")
	for _, text := range texts {
		if !strings.Contains(body, text) {
			v.t.Errorf("the page does not say %s:\n%s", text, body)
		}
	}
}

// statusJSON is the part of /status.json that is checked.
type statusJSON struct {
	Attention []struct{ Code string }
	Problems  []struct{ Code string }
	Pages     int
	ByState   map[string]int `json:"by_state"`
	Scopes    []scopeJSON
}

type scopeJSON struct {
	Name, State string
	Series      []struct {
		Dataset string
		Windows map[string]int
	}
}

func (s statusJSON) scope(name string) scopeJSON {
	for _, sc := range s.Scopes {
		if sc.Name == name {
			return sc
		}
	}
	return scopeJSON{}
}

// has reports whether there is something to look at, or a problem, of this code.
func (s statusJSON) has(code string) bool {
	for _, one := range slices.Concat(s.Attention, s.Problems) {
		if one.Code == code {
			return true
		}
	}
	return false
}

// until waits until /status.json is as it should be.
func (v *viewer) until(check func(statusJSON) error) {
	v.t.Helper()
	testkit.Within(v.t, 90*time.Second, func() error {
		body, err := page(v.base + "/status.json")
		if err != nil {
			return err
		}
		var s statusJSON
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			return err
		}
		return check(s)
	})
}
