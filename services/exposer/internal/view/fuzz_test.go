package view_test

import (
	"encoding/gob"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// FuzzBody holds whole bodies against Prometheus's own parsers: whatever
// buckets the contract allows, in both formats and both encodings every sample
// comes back with the same labels, the same float, bit by bit, and the same
// millisecond; families are announced once, before their samples; and the
// samples of a series ascend.
func FuzzBody(f *testing.F) {
	prometheus := startPromparse(f)
	f.Add([]byte{})
	f.Add([]byte("\x01\x02\x00zone.example\x00Account\x00some words of help\x00text/html\x00"))
	f.Add([]byte("\xff\x03\x01\"quoted\\\n\x01\x00\xc3\xbc\x01\x00\xe2\x82\xac\x00\x7f\xef\xff\xff\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Add([]byte(strings.Repeat("\x02\x01a\x00b\x04\x7f\xe1\x02", 60)))
	f.Fuzz(func(t *testing.T, seed []byte) {
		d := &draw{bytes: seed}
		store := sample.Store{ID: "fuzz", Stamp: sample.Stamp(1 + d.n(2))}
		held := recent.New(store, 720*time.Hour)
		now := feedtest.T0.Add(24 * time.Hour)
		want := map[string][]point{}
		for i := range 1 + d.n(3) {
			def := d.definition(i)
			if err := wire.CheckDefinition(def); err != nil {
				t.Fatal(err)
			}
			if err := held.Define(def); err != nil {
				t.Fatal(err)
			}
			for n := range 1 + d.n(6) {
				b := d.bucket(def, n)
				if err := wire.CheckBucket(b); err != nil {
					t.Fatal(err)
				}
				// What a writer may store is what all readers accept.
				if payload, err := wire.Seal(b, def); err == nil {
					if b, err = wire.DecodeBucket(payload); err != nil {
						t.Fatalf("it was sealed, and cannot be read: %v", err)
					}
				}
				if kept, err := held.Add(b, def, now); err != nil || !kept {
					t.Fatalf("bucket %s is not held: %v", b.Key, err)
				}
				collect(want, b, def, store.Stamp)
			}
		}
		limits := recent.Limits{MaxAge: 720 * time.Hour, Soft: math.MaxInt, Hard: math.MaxInt}
		v, err := view.Build(held.State(bucket.Position{Revision: 1}), false, now, limits, nil)
		if err != nil {
			t.Fatal(err)
		}
		for format := range expo.Format(expo.Formats) {
			plain := body(t, v, format, expo.Identity)
			if zipped := body(t, v, format, expo.Gzip); zipped != plain {
				t.Fatalf("%s: gzip holds another body", format)
			}
			compare(t, format, prometheus.parse(t, format, plain), want, plain)
		}
	})
}

// point is a value at an instant, bit by bit.
type point struct {
	at   int64 // milliseconds
	bits uint64
}

// collect notes what a bucket must look like to Prometheus.
func collect(want map[string][]point, b *bucket.Bucket, def *bucket.Definition, stamp sample.Stamp) {
	for i := range b.Families {
		rows := &b.Families[i]
		fam := sample.FamilyOf(def, rows.Family)
		for row, v := range rows.Values {
			labels := []string{"zone", b.Zone, "account", b.Account}
			for j, name := range fam.Labels {
				labels = append(labels, name, rows.Labels[row*len(fam.Labels)+j])
			}
			key := series(fam.Name, labels)
			want[key] = append(want[key], point{int64(stamp.Of(b.Window())), math.Float64bits(v + 0)}) // a zero has no sign to Weir
		}
	}
}

// series spells a series: to Prometheus the order of labels is none, an empty
// label is no label, and a NUL would end the body.
func series(name string, labels []string) string {
	var pairs []string
	for i := 0; i < len(labels); i += 2 {
		if labels[i+1] != "" {
			pairs = append(pairs, fmt.Sprintf("%s=%q", labels[i], strings.ReplaceAll(labels[i+1], "\x00", "\uFFFD")))
		}
	}
	slices.Sort(pairs)
	return name + "{" + strings.Join(pairs, ",") + "}"
}

func compare(t *testing.T, format expo.Format, got parsed, want map[string][]point, plain string) {
	t.Helper()
	if got.Error != "" {
		t.Fatalf("%s: Prometheus refuses the body: %s\n%.4000s", format, got.Error, plain)
	}
	have := map[string][]point{}
	announced, current := map[string]bool{}, ""
	for _, e := range got.Entries {
		switch {
		case e.Kind == "sample":
			if e.Name != current {
				t.Fatalf("%s: a sample of %s stands below the header of %q", format, e.Name, current)
			}
			if !e.HasTime {
				t.Fatalf("%s: a sample of %s has no timestamp", format, e.Name)
			}
			key := series(e.Name, e.Labels)
			if s := have[key]; len(s) > 0 && s[len(s)-1].at > e.Time {
				t.Fatalf("%s: samples of %s do not ascend", format, key)
			}
			have[key] = append(have[key], point{e.Time, e.Bits})
		case e.Kind == "help":
			if announced[e.Name] {
				t.Fatalf("%s: family %s is announced twice", format, e.Name)
			}
			announced[e.Name], current = true, e.Name
		case e.Kind == "type" && (e.Text != "gauge" || e.Name != current):
			t.Fatalf("%s: family %s is a %s below the header of %s", format, e.Name, e.Text, current)
		}
	}
	for _, m := range []map[string][]point{have, want} {
		for _, s := range m { // of equal instants, which two datasets may have, any order will do
			slices.SortFunc(s, func(a, b point) int {
				if a.at != b.at {
					return int(a.at - b.at)
				}
				return int(int64(a.bits>>1) - int64(b.bits>>1))
			})
		}
	}
	if diff := cmp.Diff(want, have, cmp.AllowUnexported(point{})); diff != "" {
		t.Fatalf("%s: Prometheus reads other samples (-want +got):\n%s\n%.4000s", format, diff, plain)
	}
}

// draw makes choices from bytes; when they are used up, every choice is the
// first.
type draw struct{ bytes []byte }

func (d *draw) byte() byte {
	if len(d.bytes) == 0 {
		return 0
	}
	b := d.bytes[0]
	d.bytes = d.bytes[1:]
	return b
}

// n is a number below most.
func (d *draw) n(most int) int { return int(d.byte()) % most }

// text is what stands before the next byte 0, as the UTF-8 that the contract
// asks for; byte 1 escapes the one after it.
func (d *draw) text() string {
	var out []byte
	for len(d.bytes) > 0 {
		b := d.byte()
		if b == 0 {
			break
		}
		if b == 1 {
			b = d.byte()
		}
		out = append(out, b)
	}
	return strings.ToValidUTF8(string(out), "?")
}

// line is a text without line breaks.
func (d *draw) line() string { return strings.NewReplacer("\n", "\\n", "\r", " ").Replace(d.text()) }

func (d *draw) float() float64 {
	extremes := []float64{
		0, 1, math.Copysign(0, -1), -1, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 53, 1<<53 + 2, -(1 << 53),
		0.1, 1e21, 1e20, 123456789.5, math.Pi, 1e-7,
	}
	if i := d.n(len(extremes) + 4); i < len(extremes) {
		return extremes[i]
	}
	var bits uint64
	for range 8 {
		bits = bits<<8 | uint64(d.byte())
	}
	if v := math.Float64frombits(bits); !math.IsNaN(v) && !math.IsInf(v, 0) {
		return v
	}
	return 2
}

// definition draws one of few names, so that datasets share families.
func (d *draw) definition(i int) *bucket.Definition {
	names := []string{"cloudflare_zone_requests", "cloudflare_x", "a", "_", "x_total", "x_created", "x_bucket", "x_sum", "x_info", "x_bytes"}
	labels := []string{"status", "le", "quantile", "a", "_x", "zone_name"}
	sizes := []time.Duration{5 * time.Minute, time.Hour, time.Minute}
	def := &bucket.Definition{Dataset: fmt.Sprintf("fuzz%d_5m", i), Version: 1, ScopeKind: bucket.Zone, Size: sizes[i], Depth: 10}
	for range 1 + d.n(3) {
		fam := bucket.Family{Name: names[d.n(len(names))], Help: "Help " + d.line(), Unit: []string{"", "bytes"}[d.n(2)], Role: bucket.Role(1 + d.n(2))}
		if fam.Role == bucket.Breakdown {
			fam.Labels = slices.Clone(labels[:d.n(len(labels)+1)])
		}
		if sample.FamilyOf(def, fam.Name) == nil {
			def.Families = append(def.Families, fam)
		}
	}
	return def
}

func (d *draw) bucket(def *bucket.Definition, n int) *bucket.Bucket {
	b := &bucket.Bucket{
		Key:  bucket.Key{Dataset: def.Dataset, Scope: feedtest.Zone(n % 2), Start: bucket.TimeOf(feedtest.T0).Floor(time.Hour).Add(time.Duration(n/2) * def.Size)},
		Size: def.Size, Version: 1, Zone: "z" + d.text(), Account: d.text(), Finality: bucket.Confirmed, Origin: bucket.Live, Variant: "v",
	}
	for i := range def.Families {
		fam := &def.Families[i]
		rows := bucket.Rows{Family: fam.Name}
		most := 1
		if len(fam.Labels) > 0 {
			most = 4
		}
		seen := map[string]bool{}
		for range d.n(most + 1) {
			var labels []string
			for range fam.Labels {
				labels = append(labels, d.text())
			}
			value := d.float()
			// Two rows must differ to Prometheus as well.
			if key := strings.ReplaceAll(strings.Join(labels, "\xff"), "\x00", "\uFFFD"); !seen[key] {
				seen[key] = true
				rows.Labels, rows.Values = append(rows.Labels, labels...), append(rows.Values, value)
			}
		}
		if len(rows.Values) > 0 {
			bucket.SortRows(&rows)
			b.Families = append(b.Families, rows)
		}
	}
	return b
}

// promparse is a process with Prometheus's parsers, see testdata/promparse.
type promparse struct {
	mu  sync.Mutex
	in  *gob.Encoder
	out *gob.Decoder
}

type (
	question struct {
		ContentType string
		Body        []byte
	}
	entry struct {
		Kind, Name, Text string
		Labels           []string
		Bits             uint64
		HasTime          bool
		Time             int64
	}
	parsed struct {
		Entries []entry
		Error   string
	}
)

// startPromparse builds the program and starts it; it ends with this process,
// whose end closes its standard input.
func startPromparse(f *testing.F) *promparse {
	f.Helper()
	root, err := testkit.Root()
	if err != nil {
		f.Fatal(err)
	}
	program := filepath.Join(f.TempDir(), "promparse")
	// The flags are those with which internal/promtest builds Prometheus, so
	// that the packages are compiled once.
	build := exec.Command("go", "build", "-modfile="+filepath.Join(root, "tools", "prometheus.mod"), "-trimpath",
		"-tags=netgo,remove_all_sd,enable_kubernetes_sd,enable_dns_sd", "-o", program, "./internal/view/testdata/promparse")
	build.Dir, build.Env = filepath.Join(root, "services", "exposer"), append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		f.Fatalf("build Prometheus's parsers: %v\n%s", err, out)
	}
	cmd := exec.Command(program)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		f.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			f.Error(err)
		}
	})
	return &promparse{in: gob.NewEncoder(in), out: gob.NewDecoder(out)}
}

func (p *promparse) parse(t *testing.T, format expo.Format, text string) (got parsed) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.in.Encode(question{format.ContentType(), []byte(text)}); err != nil {
		t.Fatal(err)
	}
	if err := p.out.Decode(&got); err != nil {
		t.Fatal(err)
	}
	return got
}
