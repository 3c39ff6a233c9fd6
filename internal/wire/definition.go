package wire

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// EncodeDefinition returns the payload of a dataset version entry. As with
// [EncodeBucket], the definition should pass [CheckDefinition].
func EncodeDefinition(d *bucket.Definition) []byte { return marshal(ProtoDefinition(d)) }

// DecodeDefinition reads the payload of a dataset version entry.
func DecodeDefinition(payload []byte) (*bucket.Definition, error) {
	var m bucketv1.DatasetVersion
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decode dataset version: %w", err)
	}
	return Definition(&m)
}

// ProtoDefinition converts a definition into its message.
func ProtoDefinition(d *bucket.Definition) *bucketv1.DatasetVersion {
	m := &bucketv1.DatasetVersion{
		Dataset:     clean(d.Dataset),
		Version:     d.Version,
		ScopeKind:   bucketv1.ScopeKind(d.ScopeKind),
		SizeSeconds: seconds(d.Size),
		Delay:       durationpb.New(d.Delay),
		ReplayDepth: uint32(max(d.Depth, 0)),
		Description: clean(d.Description),
		Families:    make([]*bucketv1.FamilyDefinition, len(d.Families)),
	}
	for i := range d.Families {
		f := &d.Families[i]
		labels := make([]string, len(f.Labels))
		for j, l := range f.Labels {
			labels[j] = clean(l)
		}
		m.Families[i] = &bucketv1.FamilyDefinition{
			Name: clean(f.Name), Help: clean(f.Help), Unit: clean(f.Unit),
			Labels: labels, Role: bucketv1.FamilyRole(f.Role), Additive: f.Additive,
		}
	}
	return m
}

// Definition converts a message into a definition that passes [CheckDefinition].
func Definition(m *bucketv1.DatasetVersion) (*bucket.Definition, error) {
	if m == nil {
		return nil, fmt.Errorf("dataset version is missing")
	}
	fail := func(err error) (*bucket.Definition, error) {
		return nil, fmt.Errorf("dataset version %.80q/%d: %w", m.GetDataset(), m.GetVersion(), err)
	}
	kind, err := scopeKind(m.GetScopeKind())
	if err != nil {
		return fail(err)
	}
	if m.GetDelay() != nil {
		if err := m.GetDelay().CheckValid(); err != nil {
			return fail(fmt.Errorf("delay: %w", err))
		}
	}
	d := &bucket.Definition{
		Dataset:     m.GetDataset(),
		Version:     m.GetVersion(),
		ScopeKind:   kind,
		Size:        time.Duration(m.GetSizeSeconds()) * time.Second,
		Delay:       m.GetDelay().AsDuration(),
		Depth:       int(m.GetReplayDepth()),
		Description: m.GetDescription(),
		Families:    make([]bucket.Family, len(m.GetFamilies())),
	}
	for i, f := range m.GetFamilies() {
		role := f.GetRole()
		if role != bucketv1.FamilyRole_FAMILY_ROLE_TOTAL && role != bucketv1.FamilyRole_FAMILY_ROLE_BREAKDOWN {
			return fail(fmt.Errorf("family %.80q has role %d; it must be total (%d) or breakdown (%d)", f.GetName(), role, bucket.Total, bucket.Breakdown))
		}
		d.Families[i] = bucket.Family{
			Name: f.GetName(), Help: f.GetHelp(), Unit: f.GetUnit(),
			Labels: append([]string(nil), f.GetLabels()...),
			Role:   bucket.Role(role), Additive: f.GetAdditive(),
		}
	}
	if err := CheckDefinition(d); err != nil {
		return nil, err
	}
	return d, nil
}

// MaxDepth is the greatest replay depth: Prometheus re-appends every repeat
// without end from 33 samples per series on, and three are kept as a margin.
const MaxDepth = 30

// CheckDefinition reports the first thing about d that the contract does not allow.
func CheckDefinition(d *bucket.Definition) error {
	if err := CheckDataset(d.Dataset); err != nil {
		return err
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("dataset version %s/%d: %w", d.Dataset, d.Version, fmt.Errorf(format, args...))
	}
	if d.Version == 0 {
		return fail("version is 0; it must be 1 or greater")
	}
	if d.ScopeKind != bucket.Zone && d.ScopeKind != bucket.Account {
		return fail("scope kind is %d; it must be zone (%d) or account (%d)", d.ScopeKind, bucket.Zone, bucket.Account)
	}
	if err := bucket.ValidSize(d.Size); err != nil {
		return fail("%w", err)
	}
	if d.Delay < 0 {
		return fail("delay is %s; it must not be negative", d.Delay)
	}
	if d.Depth < 1 || d.Depth > MaxDepth {
		return fail("replay depth is %d; it must be 1 to %d", d.Depth, MaxDepth)
	}
	if !utf8.ValidString(d.Description) {
		return fail("description is not UTF-8")
	}
	if len(d.Families) == 0 {
		return fail("it has no family; it must have at least one")
	}
	for i := range d.Families {
		f := &d.Families[i]
		if err := checkFamily(f); err != nil {
			return fail("%w", err)
		}
		if slices.ContainsFunc(d.Families[:i], func(o bucket.Family) bool { return o.Name == f.Name }) {
			return fail("family %s is defined twice", f.Name)
		}
	}
	return nil
}

func checkFamily(f *bucket.Family) error {
	if err := checkMetricName(f.Name); err != nil {
		return err
	}
	if f.Help == "" || strings.ContainsAny(f.Help, "\r\n") || !utf8.ValidString(f.Help) {
		return fmt.Errorf("family %s has the help text %.80q; it must be one line of UTF-8", f.Name, f.Help)
	}
	if f.Unit != "" && !isName(f.Unit) {
		return fmt.Errorf("family %s has the unit %.80q; it must be empty or a base unit such as \"bytes\"", f.Name, f.Unit)
	}
	switch f.Role {
	case bucket.Total:
		if len(f.Labels) > 0 {
			return fmt.Errorf("family %s is a total with labels %q; a total is one series per scope", f.Name, f.Labels)
		}
	case bucket.Breakdown:
	default:
		return fmt.Errorf("family %s has role %d; it must be total (%d) or breakdown (%d)", f.Name, f.Role, bucket.Total, bucket.Breakdown)
	}
	for i, l := range f.Labels {
		switch {
		case !isName(l) || strings.HasPrefix(l, "__"):
			return fmt.Errorf("family %s has the label %.80q, which is not a Prometheus label name", f.Name, l)
		case l == "zone" || l == "account":
			return fmt.Errorf("family %s has the label %q, which every family has already", f.Name, l)
		case slices.Contains(f.Labels[:i], l):
			return fmt.Errorf("family %s has the label %q twice", f.Name, l)
		}
	}
	return nil
}

// checkMetricName holds family names to Prometheus's legacy character set
// without colons, which belong to recording rules: every scraper reads them.
func checkMetricName(name string) error {
	if !isName(name) || len(name) > 200 {
		return fmt.Errorf("family name is %.80q; it must be a Prometheus metric name: a-z, A-Z, 0-9 and _, not beginning with a digit, at most 200", name)
	}
	return nil
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case c >= '0' && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
