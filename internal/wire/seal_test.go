package wire_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/proto"
)

// sealed is a bucket with its definition, as they are stored.
func sealed() (*bucket.Bucket, *bucket.Definition) {
	b, d := example(), definition()
	d.Dataset, d.Version, d.Size = b.Dataset, b.Version, b.Size
	d.Families = nil
	for i := range b.Families {
		f := bucket.Family{Name: b.Families[i].Family, Help: "h", Role: bucket.Breakdown, Additive: true}
		for j := range b.Families[i].Width() {
			f.Labels = append(f.Labels, fmt.Sprintf("l%d", j))
		}
		d.Families = append(d.Families, f)
	}
	return b, d
}

// What no reader accepts is not sealed, and what is sealed is read as it was.
func TestSealRefuses(t *testing.T) {
	b, d := sealed()
	payload, err := wire.Seal(b, d)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := wire.DecodeBucket(payload); err != nil || cmp.Diff(b, back) != "" {
		t.Fatalf("what was sealed is read as %+v, %v", back, err)
	}
	one := func(change func(*bucket.Bucket)) *bucket.Bucket {
		b, _ := sealed()
		change(b)
		return b
	}
	rows := func(n int, label func(int) string) []bucket.Rows {
		r := bucket.Rows{Family: d.Families[0].Name}
		for i := range n {
			for range d.Families[0].Labels {
				r.Labels = append(r.Labels, label(i))
			}
			r.Values = append(r.Values, 1)
		}
		bucket.SortRows(&r)
		return []bucket.Rows{r}
	}
	d.Families[0].Labels = []string{"l"}
	long := func(n int) func(int) string {
		return func(i int) string { return fmt.Sprintf("%06d", i) + strings.Repeat("x", n-6) }
	}
	for what, c := range map[string]*bucket.Bucket{
		"no zone":           one(func(b *bucket.Bucket) { b.Zone = "" }),
		"NUL in the zone":   one(func(b *bucket.Bucket) { b.Zone = "a\x00" }),
		"a long zone":       one(func(b *bucket.Bucket) { b.Zone = strings.Repeat("a", bucket.MaxName+1) }),
		"a long account":    one(func(b *bucket.Bucket) { b.Account = strings.Repeat("a", bucket.MaxName+1) }),
		"a long label":      one(func(b *bucket.Bucket) { b.Families = rows(1, long(bucket.MaxLabel+1)) }),
		"NUL in a label":    one(func(b *bucket.Bucket) { b.Families = rows(1, func(int) string { return "\x00" }) }),
		"no UTF-8":          one(func(b *bucket.Bucket) { b.Families = rows(1, func(int) string { return "\xff" }) }),
		"two equal rows":    one(func(b *bucket.Bucket) { b.Families = rows(2, func(int) string { return "a" }) }),
		"many rows":         one(func(b *bucket.Bucket) { b.Families = rows(wire.MaxRows+1, long(6)) }),
		"many bytes":        one(func(b *bucket.Bucket) { b.Families = rows(5000, long(bucket.MaxLabel)) }),
		"NaN":               one(func(b *bucket.Bucket) { b.Families = rows(1, long(6)); b.Families[0].Values[0] = math.NaN() }),
		"an endless sample": one(func(b *bucket.Bucket) { b.SampleInterval = math.Inf(1) }),
		"another version":   one(func(b *bucket.Bucket) { b.Version++ }),
		"another family":    one(func(b *bucket.Bucket) { b.Families = []bucket.Rows{{Family: "other", Values: []float64{1}}} }),
		"other labels":      one(func(b *bucket.Bucket) { b.Families = []bucket.Rows{{Family: d.Families[0].Name, Values: []float64{1}}} }),
	} {
		if payload, err := wire.Seal(c, d); err == nil {
			t.Errorf("%s: sealed as %d bytes", what, len(payload))
		} else if len(err.Error()) > 500 {
			t.Errorf("%s: the error has %d bytes", what, len(err.Error()))
		}
	}
	for what, c := range map[string][]bucket.Rows{
		"as many rows as may be": rows(wire.MaxRows, long(6)), "a label as long as may be": rows(20, long(bucket.MaxLabel)),
	} {
		payload, err := wire.Seal(one(func(b *bucket.Bucket) { b.Families = c }), d)
		if err != nil || len(payload) > wire.MaxEntry {
			t.Errorf("%s: %d bytes, %v", what, len(payload), err)
		}
	}
}

// FuzzStored: what CheckStored lets through arrives in a message that a reader
// can take apart, and what it holds back cannot be, or is of another key.
func FuzzStored(f *testing.F) {
	f.Add(uint8(bucket.KindBucket), wire.EncodeBucket(example()))
	f.Add(uint8(bucket.KindDatasetVersion), wire.EncodeDefinition(definition()))
	f.Add(uint8(bucket.KindBucket), append(wire.EncodeBucket(example()), 0x6a, 0x03, 0x1a, 0x01, 0x07))
	f.Add(uint8(bucket.KindState), []byte{0x32, 0x02, 0x08, 0xff})
	f.Add(uint8(bucket.KindGapDecision), []byte("\x0b\x0c"))
	f.Add(uint8(bucket.KindAudit), []byte{0x12, 0x01, 0xff})
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		var m proto.Message
		var key bucket.Key
		switch bucket.Kind(kind) {
		case bucket.KindBucket:
			m = &bucketv1.Bucket{}
		case bucket.KindDatasetVersion:
			m = &bucketv1.DatasetVersion{}
		case bucket.KindGapDecision:
			m = &bucketv1.GapDecision{}
		case bucket.KindState:
			m = &bucketv1.State{}
		case bucket.KindRestatement:
			m = &bucketv1.Restatement{}
		case bucket.KindAudit:
			m = &bucketv1.AuditEvent{}
		default:
			return
		}
		decodes := proto.Unmarshal(payload, m)
		if b, ok := m.(*bucketv1.Bucket); ok && decodes == nil {
			key = bucket.Key{
				Dataset: b.GetDataset(), Start: bucket.Time(b.GetStartUnixSeconds()),
				Scope: bucket.Scope{Kind: bucket.ScopeKind(b.GetScope().GetKind()), ID: b.GetScope().GetId()},
			}
			if _, err := wire.Bucket(b); err == nil {
				if err := wire.CheckStored(bucket.Kind(kind), key, payload); err != nil {
					t.Fatalf("a valid bucket is held back: %v", err)
				}
				key.Start++
				if wire.CheckStored(bucket.Kind(kind), key, payload) == nil {
					t.Fatal("a bucket passes under another key")
				}
				key.Start--
			}
		}
		err := wire.CheckStored(bucket.Kind(kind), key, payload)
		if err == nil && decodes != nil {
			t.Fatalf("it passes, and no reader can take it apart: %v", decodes)
		}
		if err != nil && decodes == nil && bucket.Kind(kind) != bucket.KindBucket && bucket.Kind(kind) != bucket.KindRestatement {
			t.Fatalf("it is held back, and every reader could take it apart: %v", err)
		}
	})
}
