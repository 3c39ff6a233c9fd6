package wire

import (
	"fmt"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Limits for writing. They are stricter than those for reading, so that every release can
// read stored buckets, and so that they can be lowered: readers accept what older releases
// stored.
const (
	// MaxMessage is the largest message that a client accepts; see package client.
	MaxMessage = 16 << 20
	// MaxEntry is the most bytes of a stored bucket: a quarter of a message. The
	// largest bucket of the shipped catalogue, every label at its bound, has a
	// fiftieth of it.
	MaxEntry = 4 << 20
	// MaxRows is the most rows of a bucket, of all families together: a quarter
	// of the samples with which an exposer refuses to answer a scrape (250,000).
	MaxRows = 1 << 16
)

// Seal returns the payload of a bucket's entry, or an error if a reader would reject it. d
// is the definition under which the bucket was collected. It must be called before an
// append, since stored buckets can never be changed.
//
// It judges by the readers' own functions, on the very bytes that are stored.
func Seal(b *bucket.Bucket, d *bucket.Definition) ([]byte, error) {
	fail := func(format string, args ...any) ([]byte, error) {
		return nil, fmt.Errorf("bucket %s: %w", b.Key, fmt.Errorf(format, args...))
	}
	if err := CheckBucket(b); err != nil {
		return nil, err
	}
	if err := CheckFit(b, d); err != nil {
		return nil, err
	}
	if n := b.Len(); n > MaxRows {
		return fail("it has %d rows; it must have at most %d", n, MaxRows)
	}
	for name, s := range map[string]string{"zone": b.Zone, "account": b.Account} {
		if err := checkText(s, bucket.MaxName); err != nil {
			return fail("the %s label %w", name, err)
		}
	}
	for i := range b.Families {
		for _, l := range b.Families[i].Labels {
			if err := checkText(l, bucket.MaxLabel); err != nil {
				return fail("a label value of family %s %w", b.Families[i].Family, err)
			}
		}
	}
	payload := EncodeBucket(b)
	if len(payload) > MaxEntry {
		return fail("it has %d bytes; it must have at most %d", len(payload), MaxEntry)
	}
	if err := CheckStored(bucket.KindBucket, b.Key, payload); err != nil {
		return fail("%w", err)
	}
	if _, err := DecodeBucket(payload); err != nil {
		return nil, err
	}
	return payload, nil
}

// CheckFit reports what of a bucket does not fit the definition under which it
// was collected: rows of a family that it has not, or with other labels.
func CheckFit(b *bucket.Bucket, d *bucket.Definition) error {
	if b.Dataset != d.Dataset || b.Version != d.Version || b.Size != d.Size || b.Scope.Kind != d.ScopeKind {
		return fmt.Errorf("bucket %s was collected under version %d of its dataset, size %s; the definition is %s/%d, size %s, of a %s",
			b.Key, b.Version, b.Size, d.Dataset, d.Version, d.Size, d.ScopeKind)
	}
families:
	for i := range b.Families {
		rows := &b.Families[i]
		for j := range d.Families {
			if fam := &d.Families[j]; fam.Name == rows.Family {
				if rows.Width() != len(fam.Labels) {
					return fmt.Errorf("bucket %s: family %s has rows with %d labels; its definition has %d (%s)",
						b.Key, fam.Name, rows.Width(), len(fam.Labels), strings.Join(fam.Labels, ", "))
				}
				continue families
			}
		}
		return fmt.Errorf("bucket %s: version %d of the dataset has no family %.80q", b.Key, b.Version, rows.Family)
	}
	return nil
}

func checkText(s string, most int) error {
	switch {
	case len(s) > most:
		return fmt.Errorf("has %d bytes; it must have at most %d", len(s), most)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("is %.80q; it must not contain NUL, which would truncate a scrape", s)
	}
	return nil
}
