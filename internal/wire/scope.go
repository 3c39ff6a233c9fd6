package wire

import (
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Longest dataset id: it is a column, a label value and part of every page token.
const maxDatasetLen = 64

// CheckDataset reports what is wrong with a dataset id, if anything: it is a
// lower-case letter followed by lower-case letters, digits and underscores, at
// most 64 in all.
func CheckDataset(id string) error {
	ok := id != "" && len(id) <= maxDatasetLen && id[0] >= 'a' && id[0] <= 'z'
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_'
	}
	if !ok {
		return fmt.Errorf("dataset id is %.80q; it must be 1 to %d of a-z, 0-9 and _, beginning with a letter", id, maxDatasetLen)
	}
	return nil
}

// ProtoScope converts a scope into its message.
func ProtoScope(s bucket.Scope) *bucketv1.Scope {
	return &bucketv1.Scope{Kind: bucketv1.ScopeKind(s.Kind), Id: clean(s.ID)}
}

// Scope converts a message into a valid scope.
func Scope(m *bucketv1.Scope) (bucket.Scope, error) {
	if m == nil {
		return bucket.Scope{}, fmt.Errorf("scope is missing")
	}
	kind, err := scopeKind(m.GetKind())
	if err != nil {
		return bucket.Scope{}, err
	}
	s := bucket.Scope{Kind: kind, ID: m.GetId()}
	if len(s.ID) > 64 {
		// Not echoed whole into logs and answers.
		return bucket.Scope{}, fmt.Errorf("scope id has %d characters; it must have 32", len(s.ID))
	}
	if err := s.Validate(); err != nil {
		return bucket.Scope{}, err
	}
	return s, nil
}

func scopeKind(k bucketv1.ScopeKind) (bucket.ScopeKind, error) {
	switch k {
	case bucketv1.ScopeKind_SCOPE_KIND_ZONE:
		return bucket.Zone, nil
	case bucketv1.ScopeKind_SCOPE_KIND_ACCOUNT:
		return bucket.Account, nil
	}
	return 0, fmt.Errorf("scope kind is %d; it must be zone (%d) or account (%d)", k, bucket.Zone, bucket.Account)
}
