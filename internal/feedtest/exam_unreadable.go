package feedtest

import (
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// unreadable: a store holds what an older release wrote without looking at it.
// One such entry must not end a stream, on which all others wait behind it: it
// comes with its revision and its chain and nothing else. What decodes and is
// merely not valid may come as it is.
func unreadable(x *exam) {
	x.fill(2)
	text := func(field protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
	}
	of := func(n int) Entry { return Entry{Bucket: Bucket("http_5m", Zone(1), n)} }
	whole := wire.EncodeBucket(of(2).Bucket)
	families := wire.EncodeBucket(of(5).Bucket)
	spoiled := []Entry{
		of(2).Spoil(whole[:len(whole)-1]),                                                             // cut
		of(3).Spoil([]byte("what is this?")),                                                          // no message at all
		of(4).Spoil(wire.EncodeBucket(of(3).Bucket)),                                                  // another bucket than its key says
		of(5).Spoil(append(families, text(6, []byte("\xff"))...)),                                     // a zone that is no UTF-8
		of(6).Spoil(append(wire.EncodeBucket(of(6).Bucket), text(13, text(3, []byte("seven b")))...)), // values that are no numbers
		of(7).Spoil(nil),
		of(8).Spoil(append(wire.EncodeBucket(of(8).Bucket), text(127, make([]byte, wire.MaxMessage))...)), // more than a message
		Entry{Definition: Definition("dns_5m", 2)}.Spoil([]byte("\xff\xff\xff")),
		Entry{Gap: Gap("dns_5m", Zone(1), 20, 21)}.Spoil([]byte("\x0a\x05")),
	}
	spoiled[5].Spoiled.Payload = []byte{0x08} // a tag and nothing behind it
	x.append(T0.Add(time.Hour), spoiled...)
	x.append(T0.Add(time.Hour), of(9))
	x.Progress(x, T0.Add(time.Hour))

	// From the log, from anywhere in it, and as it grows.
	id := x.storeID()
	all := x.watch(resume(x.zero(), nil)).until(x.head())
	x.wantEntries(all, x.log)
	for i, e := range all {
		t := x.watch(resume(pointOf(id, e), nil))
		x.wantEntries(t.until(x.head()), x.log[i+1:])
		t.stop()
	}
	live := x.watch(resume(pointOf(id, all[len(all)-1]), nil))
	before := x.head()
	x.append(T0.Add(time.Hour), of(10).Spoil([]byte("new")), of(11))
	x.wantEntries(live.until(x.head()), x.log[before:])

	// In a snapshot: each has its place in the order, and is not counted.
	x.Progress(x, T0.Add(2*time.Hour))
	got, end := x.watch(fromSnapshot(24*time.Hour, 0, nil)).snapshot()
	want := x.logged(func(e *bucketv1.Entry) bool { return e.GetDatasetVersion() != nil })
	want = append(want, x.log[8+2+7]) // the version that cannot be read
	want = append(want, x.buckets(func(b *bucketv1.Bucket) bool { return b.GetDataset() == "dns_5m" })...)
	list := x.httpWithSpoiled(before)
	x.wantEntries(got, append(want, list...))
	if readable := len(slices.DeleteFunc(slices.Clone(got), func(e *bucketv1.Entry) bool { return e.GetBucket() == nil })); end.GetBuckets() != uint64(readable) {
		x.Fatalf("the snapshot says %d buckets; %d came with content", end.GetBuckets(), readable)
	}

	// In a list, with and without families, and behind every token.
	req := listRequest(0, 20)
	req.Filter = &bucketv1.Filter{Datasets: []string{"http_5m"}}
	listed, tokens := x.listed(req)
	x.wantEntries(listed, list)
	for i, token := range tokens {
		next := clone(req)
		next.PageToken = token
		rest, _ := x.listed(next)
		x.wantEntries(rest, list[i+1:])
	}
	req.Families = []string{Total("http_5m")}
	if some, _ := x.listed(req); len(some) != len(list) {
		x.Fatalf("of one family %d entries are listed; want %d", len(some), len(list))
	}
	// What can be read of the datasets is listed.
	ds, err := x.rpc.ListDatasets(x.Context(), &bucketv1.ListDatasetsRequest{})
	if err != nil || len(ds.GetDatasets()) != 2 || ds.GetDatasets()[0].GetVersion() != 1 {
		x.Fatalf("ListDatasets: %v, %v; want both datasets, dns_5m as of its version 1", ds, err)
	}
}

// httpWithSpoiled is what a list of http_5m has in that exam: after is the
// revision before the last two entries.
func (x *exam) httpWithSpoiled(after uint64) []*bucketv1.Entry {
	out := x.buckets(func(b *bucketv1.Bucket) bool { return b.GetDataset() == "http_5m" })
	first := slices.IndexFunc(x.log, func(e *bucketv1.Entry) bool { return e.GetKind() == nil })
	at := slices.IndexFunc(out, func(e *bucketv1.Entry) bool {
		return e.GetBucket().GetStartUnixSeconds() > T0.Add(time.Hour/2).Unix()
	})
	out = slices.Insert(out, at, x.log[first:first+7]...)
	return slices.Insert(out, len(out)-1, x.log[after])
}
