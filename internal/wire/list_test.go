package wire_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// UnmarshalList is proto.Unmarshal, whatever arrives.
func FuzzUnmarshalList(f *testing.F) {
	at, p := time.Unix(1772324000, 5e8).UTC(), bucket.Position{Revision: 7, Chain: bucket.Chain{1, 2}}
	b := example()
	f.Add(wire.ListFrame(p, at, bucket.KindBucket, wire.EncodeBucket(b), "token"))
	f.Add(wire.ListFrame(p, at, wire.KindNone, nil, "token"))
	f.Add(wire.ListFrame(p, at, bucket.KindState, wire.EncodeBucket(b), ""))
	b.Families = nil
	f.Add(wire.ListFrame(p, time.Time{}, bucket.KindBucket, wire.EncodeBucket(b), "token"))
	twice := wire.EncodeBucket(example())
	f.Add(wire.ListFrame(p, at, bucket.KindBucket, append(twice, twice...), "token"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got := &bucketv1.ListBucketsResponse{PageToken: "of before"}
		want := &bucketv1.ListBucketsResponse{}
		err, wantErr := wire.UnmarshalList(data, got), proto.Unmarshal(data, want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("the error is %v, want %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if d := cmp.Diff(want, got, protocmp.Transform()); d != "" && !proto.Equal(want, got) {
			t.Fatalf("(-want +got)\n%s", d)
		}
	})
}

// The messages of a list take the short way.
func TestUnmarshalListAllocatesLittle(t *testing.T) {
	b := example()
	frame := wire.ListFrame(bucket.Position{Revision: 7}, time.Unix(1772324000, 0), bucket.KindBucket, wire.EncodeBucket(b), "token")
	var m bucketv1.ListBucketsResponse
	few := testing.AllocsPerRun(100, func() {
		if err := wire.UnmarshalList(frame, &m); err != nil {
			t.Fatal(err)
		}
	})
	if few > 8 {
		t.Errorf("%g allocations for a bucket of %d families, want at most 8", few, len(b.Families))
	}
}

// What OnlyFamilies leaves is what decoding, removing and encoding leaves.
func TestOnlyFamilies(t *testing.T) {
	b := example()
	all := map[string]bool{}
	for i := range b.Families {
		all[b.Families[i].Family] = true
	}
	if len(all) < 2 {
		t.Fatal("the example has too few families")
	}
	payload := wire.EncodeBucket(b)
	before := string(payload)
	subsets := []map[string]bool{nil, {"other": true}, all}
	for name := range all {
		without := map[string]bool{"other": true}
		for other := range all {
			without[other] = other != name
		}
		subsets = append(subsets, map[string]bool{name: true}, without)
	}
	for _, families := range subsets {
		want := *b
		want.Families = nil
		for i := range b.Families {
			if families[b.Families[i].Family] {
				want.Families = append(want.Families, b.Families[i])
			}
		}
		if got := wire.OnlyFamilies(bucket.KindBucket, payload, families); string(got) != string(wire.EncodeBucket(&want)) {
			t.Errorf("of %v something else is left", families)
		}
		if string(payload) != before {
			t.Fatal("the payload was changed")
		}
	}
}
