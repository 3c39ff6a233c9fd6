package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
)

// Definitions holds the dataset versions under which buckets were collected, which
// describe their families. Use [LoadDefinitions], or a zero value to which a
// [Handler] adds the versions that it receives. Concurrent reads are safe only while
// nothing is added.
type Definitions struct {
	// Info describes the store; nil in a zero value.
	Info     *bucketv1.StoreInfo
	versions map[version]*bucketv1.DatasetVersion
}

type version struct {
	dataset string
	number  uint32
}

// LoadDefinitions reads all versions of all datasets that buckets stored up to now
// may reference. ListDatasets has the newest versions only.
func LoadDefinitions(ctx context.Context, conn grpc.ClientConnInterface) (*Definitions, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := bucketv1.NewBucketServiceClient(conn).WatchBuckets(ctx, &bucketv1.WatchBucketsRequest{
		Start: &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{}},
	}, grpc.MaxCallRecvMsgSize(maxMessage))
	d := &Definitions{}
	for err == nil {
		var m *bucketv1.WatchBucketsResponse
		if m, err = s.Recv(); err != nil {
			break
		}
		if info := m.GetInfo(); info != nil {
			d.Info = info
		}
		if v := m.GetEntry().GetDatasetVersion(); v != nil {
			d.Add(v)
		}
		if m.GetSnapshotEnd() != nil {
			return d, nil
		}
	}
	return nil, fmt.Errorf("load definitions: %w", err)
}

// Add adds a version.
func (d *Definitions) Add(v *bucketv1.DatasetVersion) {
	if d.versions == nil {
		d.versions = map[version]*bucketv1.DatasetVersion{}
	}
	d.versions[version{v.GetDataset(), v.GetVersion()}] = v
}

// Version returns the version under which a bucket was collected; nil if it is
// unknown, for instance because it was stored after the definitions were loaded.
func (d *Definitions) Version(b *bucketv1.Bucket) *bucketv1.DatasetVersion {
	return d.versions[version{b.GetDataset(), b.GetDatasetVersion()}]
}

// Label is one label of a row.
type Label struct{ Name, Value string }

// Row is one value of a bucket with all its labels, as a scrape would show it.
type Row struct {
	Family *bucketv1.FamilyDefinition
	// Labels are zone and account, if the bucket has them, then those of the family.
	// The slice is valid until the next row: clone it to retain it.
	Labels []Label
	Value  float64
}

// Get returns the value of a label; empty if the row has no such label.
func (r *Row) Get(name string) string {
	for _, l := range r.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// Rows yields the rows of a bucket, family by family in the order of the
// definition, rows in ascending order of label values. An error is the last pair: the
// bucket's version is unknown, or the bucket does not match it. Other buckets are not
// affected.
func (d *Definitions) Rows(b *bucketv1.Bucket) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		fail := func(format string, args ...any) {
			yield(Row{}, fmt.Errorf("rows of bucket %s: %w", keyString(b), fmt.Errorf(format, args...)))
		}
		v := d.Version(b)
		if v == nil {
			fail("version %d of the dataset is unknown: load the definitions again", b.GetDatasetVersion())
			return
		}
		families := map[string]*bucketv1.FamilyDefinition{}
		for _, f := range v.GetFamilies() {
			families[f.GetName()] = f
		}
		var labels []Label
		for _, l := range []Label{{"zone", b.GetZone()}, {"account", b.GetAccount()}} {
			if l.Value != "" {
				labels = append(labels, l)
			}
		}
		own := len(labels)
		for _, rows := range b.GetFamilies() {
			f := families[rows.GetFamily()]
			if f == nil {
				fail("version %d of the dataset has no family %q", b.GetDatasetVersion(), rows.GetFamily())
				return
			}
			n := len(f.GetLabels())
			if len(rows.GetLabelValues()) != n*len(rows.GetValues()) {
				fail("family %s has %d label values for %d rows, want %d per row", f.GetName(), len(rows.GetLabelValues()), len(rows.GetValues()), n)
				return
			}
			for i, value := range rows.GetValues() {
				labels = labels[:own]
				for j, name := range f.GetLabels() {
					labels = append(labels, Label{name, rows.GetLabelValues()[i*n+j]})
				}
				if !yield(Row{Family: f, Labels: labels, Value: value}, nil) {
					return
				}
			}
		}
	}
}

// SampleTime is the timestamp of a bucket's samples in this store, in milliseconds:
// the end of its window minus 1 ms, or its start.
func SampleTime(info *bucketv1.StoreInfo, b *bucketv1.Bucket) time.Time {
	start := time.Unix(b.GetStartUnixSeconds(), 0).UTC()
	if info.GetSampleTimestamp() == bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START {
		return start
	}
	return start.Add(time.Duration(b.GetSizeSeconds())*time.Second - time.Millisecond)
}
