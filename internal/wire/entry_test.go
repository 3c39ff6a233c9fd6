package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

func TestEntry(t *testing.T) {
	b, d := feedtest.Bucket("http_5m", feedtest.Zone(0), 0), feedtest.Definition("http_5m", 1)
	odd := wire.ProtoBucket(b)
	odd.SizeSeconds = 7
	place := bucket.Entry{Position: bucket.Position{Revision: 9, Chain: bucket.Chain{1, 2, 3}}, CommittedAt: time.Unix(1795341300, 5e6).UTC()}
	with := func(kind bucket.Kind, b *bucket.Bucket, d *bucket.Definition) bucket.Entry {
		e := place
		e.Kind, e.Bucket, e.Definition = kind, b, d
		return e
	}
	for _, tc := range []struct {
		name string
		m    *bucketv1.Entry
		want bucket.Entry
		err  string // part of it; empty: none
	}{
		{"bucket", &bucketv1.Entry{Kind: &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(b)}}, with(bucket.KindBucket, b, nil), ""},
		{"dataset version", &bucketv1.Entry{Kind: &bucketv1.Entry_DatasetVersion{DatasetVersion: wire.ProtoDefinition(d)}}, with(bucket.KindDatasetVersion, nil, d), ""},
		{"restatement", &bucketv1.Entry{Kind: &bucketv1.Entry_Restatement{Restatement: &bucketv1.Restatement{Bucket: wire.ProtoBucket(b)}}}, with(bucket.KindRestatement, b, nil), ""},
		{"gap decision", &bucketv1.Entry{Kind: &bucketv1.Entry_GapDecision{GapDecision: feedtest.Gap("http_5m", feedtest.Zone(0), 0, 1)}}, with(bucket.KindGapDecision, nil, nil), ""},
		{"state", &bucketv1.Entry{Kind: &bucketv1.Entry_State{State: feedtest.State("http_5m", feedtest.Zone(0), feedtest.T0, 1)}}, with(bucket.KindState, nil, nil), ""},
		{"audit event", &bucketv1.Entry{Kind: &bucketv1.Entry_AuditEvent{AuditEvent: feedtest.Audit("http_5m", feedtest.Zone(0), 0, 1)}}, with(bucket.KindAudit, nil, nil), ""},
		{"without content", &bucketv1.Entry{}, place, ""},
		{"odd bucket", &bucketv1.Entry{Kind: &bucketv1.Entry_Bucket{Bucket: odd}}, place, "bucket size is 7s"},
		{"odd restatement", &bucketv1.Entry{Kind: &bucketv1.Entry_Restatement{Restatement: &bucketv1.Restatement{Bucket: odd}}}, place, "bucket size is 7s"},
		{"no restatement", &bucketv1.Entry{Kind: &bucketv1.Entry_Restatement{}}, place, "bucket is missing"},
		{"odd version", &bucketv1.Entry{Kind: &bucketv1.Entry_DatasetVersion{DatasetVersion: &bucketv1.DatasetVersion{Dataset: "http_5m"}}}, place, "scope kind"},
	} {
		tc.m.Revision, tc.m.Chain, tc.m.CommittedAt = 9, place.Chain[:], timestamppb.New(place.CommittedAt)
		got, err := wire.Entry(tc.m)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: error is %v, want one with %q", tc.name, err, tc.err)
		}
	}
}

func TestEntryRefuses(t *testing.T) {
	for want, m := range map[string]*bucketv1.Entry{
		"entry is missing":     nil,
		"chain has 5 bytes":    {Revision: 9, Chain: []byte("short")},
		"entry's commit time":  {Revision: 9, CommittedAt: &timestamppb.Timestamp{Nanos: -1}},
		`bucket of dataset ""`: {Revision: 9, Kind: &bucketv1.Entry_Bucket{Bucket: &bucketv1.Bucket{}}},
	} {
		e, err := wire.Entry(m)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
		if e.Revision != bucket.Revision(m.GetRevision()) || e.Kind != 0 {
			t.Errorf("%s: revision %d and kind %d, want %d and none", want, e.Revision, e.Kind, m.GetRevision())
		}
	}
}

func TestStore(t *testing.T) {
	for _, tc := range []struct {
		at   bucketv1.SampleTimestamp
		want sample.Stamp
		ok   bool
	}{
		{bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_END, sample.End, true},
		{bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START, sample.Start, true},
		{bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_UNSPECIFIED, sample.End, true},
		{3, sample.End, false},
	} {
		got, err := wire.Store(&bucketv1.StoreInfo{StoreId: "x", SampleTimestamp: tc.at, Simulated: true, Retention: durationpb.New(time.Hour)})
		want := sample.Store{ID: "x", Stamp: tc.want, Simulated: true, Retention: time.Hour}
		if got != want || (err == nil) != tc.ok {
			t.Errorf("instant %d gives %+v and %v, want %+v, ok %v", tc.at, got, err, want, tc.ok)
		}
	}
}
