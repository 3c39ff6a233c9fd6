package wire

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/proto"
)

// EncodeBucket returns the payload of a bucket entry, unchecked; what is stored
// comes from [Seal]. Strings that are not UTF-8 are stored with U+FFFD in place of
// what is not, since a label must not be able to stop a collector.
func EncodeBucket(b *bucket.Bucket) []byte { return marshal(ProtoBucket(b)) }

// DecodeBucket reads the payload of a bucket entry.
func DecodeBucket(payload []byte) (*bucket.Bucket, error) {
	var m bucketv1.Bucket
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decode bucket: %w", err)
	}
	return Bucket(&m)
}

// ProtoBucket converts a bucket into its message. The message shares the
// slices of values and labels with b; neither may be changed afterwards.
func ProtoBucket(b *bucket.Bucket) *bucketv1.Bucket {
	m := &bucketv1.Bucket{
		Dataset:          clean(b.Dataset),
		DatasetVersion:   b.Version,
		Scope:            ProtoScope(b.Scope),
		StartUnixSeconds: int64(b.Start),
		SizeSeconds:      seconds(b.Size),
		Zone:             clean(b.Zone),
		Account:          clean(b.Account),
		Finality:         bucketv1.Finality(b.Finality),
		Origin:           bucketv1.Origin(b.Origin),
		Variant:          clean(b.Variant),
		SampleInterval:   b.SampleInterval,
		ReadUnixSeconds:  int64(b.ReadAt),
		Families:         protoRows(b.Families),
	}
	return m
}

// Bucket converts a message into a bucket that passes [CheckBucket].
func Bucket(m *bucketv1.Bucket) (*bucket.Bucket, error) {
	if m == nil {
		return nil, fmt.Errorf("bucket is missing")
	}
	scope, err := Scope(m.GetScope())
	if err != nil {
		return nil, fmt.Errorf("bucket of dataset %.80q: %w", m.GetDataset(), err)
	}
	// Checked before the conversion to the domain's uint8 could wrap them.
	finality, origin := m.GetFinality(), m.GetOrigin()
	if bucketv1.Finality_name[int32(finality)] == "" || finality == bucketv1.Finality_FINALITY_UNSPECIFIED {
		return nil, fmt.Errorf("bucket of dataset %.80q: finality is %d; it must be one of the values that the API defines", m.GetDataset(), finality)
	}
	if bucketv1.Origin_name[int32(origin)] == "" || origin == bucketv1.Origin_ORIGIN_UNSPECIFIED {
		return nil, fmt.Errorf("bucket of dataset %.80q: origin is %d; it must be one of the values that the API defines", m.GetDataset(), origin)
	}
	b := &bucket.Bucket{
		Key:            bucket.Key{Dataset: m.GetDataset(), Scope: scope, Start: bucket.Time(m.GetStartUnixSeconds())},
		Size:           time.Duration(m.GetSizeSeconds()) * time.Second,
		Version:        m.GetDatasetVersion(),
		Zone:           m.GetZone(),
		Account:        m.GetAccount(),
		Finality:       bucket.Finality(finality),
		Origin:         bucket.Origin(origin),
		Variant:        m.GetVariant(),
		SampleInterval: m.GetSampleInterval(),
		ReadAt:         bucket.Time(m.GetReadUnixSeconds()),
		Families:       rows(m.GetFamilies()),
	}
	if err := CheckBucket(b); err != nil {
		return nil, err
	}
	return b, nil
}

// CheckBucket reports the first thing about b that the contract does not
// allow. Writers append what passes [Seal], which is stricter.
func CheckBucket(b *bucket.Bucket) error {
	if err := CheckDataset(b.Dataset); err != nil {
		return err
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("bucket %s: %w", b.Key, fmt.Errorf(format, args...))
	}
	if err := b.Scope.Validate(); err != nil {
		return fail("%w", err)
	}
	if err := bucket.ValidSize(b.Size); err != nil {
		return fail("%w", err)
	}
	if err := checkTime("start", b.Start); err != nil {
		return fail("%w", err)
	}
	if b.Start.Floor(b.Size) != b.Start {
		return fail("start is not a multiple of the size %s", b.Size)
	}
	if err := checkTime("read time", b.ReadAt); err != nil {
		return fail("%w", err)
	}
	if b.Version == 0 {
		return fail("dataset version is 0; it must be 1 or greater")
	}
	switch b.Scope.Kind {
	case bucket.Zone:
		if b.Zone == "" {
			return fail("the zone label is empty; a zone scope must have one")
		}
	case bucket.Account:
		if b.Zone != "" {
			return fail("the zone label is %.80q; it must be empty for an account scope", b.Zone)
		}
		if b.Account == "" {
			return fail("the account label is empty; an account scope must have one")
		}
	}
	if b.Finality < bucket.Confirmed || b.Finality > bucket.SuspectConfirmed {
		return fail("finality is %d; it must be %d to %d", b.Finality, bucket.Confirmed, bucket.SuspectConfirmed)
	}
	if b.Origin < bucket.Live || b.Origin > bucket.Backfill {
		return fail("origin is %d; it must be %d to %d", b.Origin, bucket.Live, bucket.Backfill)
	}
	if s := b.SampleInterval; math.IsNaN(s) || math.IsInf(s, 0) || s < 0 {
		return fail("sample interval is %v; it must be finite and not negative", s)
	}
	for _, s := range []string{b.Zone, b.Account, b.Variant} {
		if !utf8.ValidString(s) {
			return fail("%.80q is not UTF-8", s)
		}
	}
	if err := checkRows(b.Families); err != nil {
		return fail("%w", err)
	}
	return nil
}

func checkRows(families []bucket.Rows) error {
	for i := range families {
		f := &families[i]
		if err := f.Validate(); err != nil {
			return err
		}
		if err := checkMetricName(f.Family); err != nil {
			return err
		}
		// A bucket has a handful of families; a set would cost more than it saves.
		if slices.ContainsFunc(families[:i], func(o bucket.Rows) bool { return o.Family == f.Family }) {
			return fmt.Errorf("family %s is present twice", f.Family)
		}
		for _, l := range f.Labels {
			if !utf8.ValidString(l) {
				return fmt.Errorf("family %s has the label value %.80q, which is not UTF-8", f.Family, l)
			}
		}
	}
	return nil
}

func protoRows(families []bucket.Rows) []*bucketv1.FamilyRows {
	out := make([]*bucketv1.FamilyRows, len(families))
	for i := range families {
		f := &families[i]
		labels := f.Labels
		if slices.ContainsFunc(labels, func(s string) bool { return !utf8.ValidString(s) }) {
			labels = slices.Clone(labels)
			for j := range labels {
				labels[j] = clean(labels[j])
			}
		}
		out[i] = &bucketv1.FamilyRows{Family: clean(f.Family), LabelValues: labels, Values: f.Values}
	}
	return out
}

func rows(families []*bucketv1.FamilyRows) []bucket.Rows {
	if len(families) == 0 {
		return nil
	}
	labels, values := 0, 0
	for _, f := range families {
		labels, values = labels+len(f.GetLabelValues()), values+len(f.GetValues())
	}
	out := make([]bucket.Rows, len(families))
	allLabels, allValues := make([]string, 0, labels), make([]float64, 0, values)
	for i, f := range families {
		// An empty list is nil, so that equal buckets are deeply equal.
		out[i].Family = f.GetFamily()
		if n := len(f.GetLabelValues()); n > 0 {
			allLabels = append(allLabels, f.GetLabelValues()...)
			out[i].Labels = slices.Clip(allLabels[len(allLabels)-n:])
		}
		if n := len(f.GetValues()); n > 0 {
			allValues = append(allValues, f.GetValues()...)
			out[i].Values = slices.Clip(allValues[len(allValues)-n:])
		}
	}
	return out
}

// latest is the end of the year 9999: beyond it RFC 3339 and Timestamp end, and
// arithmetic on windows could overflow.
const latest = bucket.Time(253402300799)

func checkTime(name string, t bucket.Time) error {
	if t < 0 || t > latest {
		return fmt.Errorf("%s is %d seconds since 1970; it must be 0 to %d", name, int64(t), int64(latest))
	}
	return nil
}

func clean(s string) string { return strings.ToValidUTF8(s, "�") }

// seconds converts a size. Sizes outside the field's range become 0, which no
// reader accepts, instead of wrapping to something plausible.
func seconds(d time.Duration) uint32 {
	s := d / time.Second
	if s < 0 || s > math.MaxUint32 {
		return 0
	}
	return uint32(s)
}
