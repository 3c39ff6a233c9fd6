package bucketsvc

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
)

// A page token is base64url of
//
//	version (1) | scope kind (1) | scope id (16) | window start (8) | dataset | sum (8)
//
// where sum is the beginning of SHA-256 over the request's fingerprint and everything
// before. It makes a modified token, or one of another request, an error instead of a
// silent gap. It needs no secret: a token gives access to nothing that the request does
// not, and any collector of the same store can continue it.
const (
	tokenVersion = 1
	tokenFixed   = 1 + 1 + 16 + 8
	tokenSum     = 8
	maxToken     = 256 // characters; far above what this version makes
)

type tokens struct {
	fingerprint [sha256.Size]byte
}

// newTokens binds tokens to a request. Lists are compared as sets.
func newTokens(f feed.Filter, w bucket.Window, families map[string]bool, restated bool) tokens {
	h := sha256.New()
	number := func(n int64) { _ = binary.Write(h, binary.BigEndian, n) } // a hash's Write never fails
	text := func(s string) { number(int64(len(s))); h.Write([]byte(s)) }
	list := func(l []string) {
		number(int64(len(l)))
		for _, s := range l {
			text(s)
		}
	}
	number(tokenVersion)
	number(int64(w.Start))
	number(int64(w.End))
	list(sorted(f.Datasets, cmp.Compare[string]))
	scopes := sorted(f.Scopes, bucket.Scope.Compare)
	number(int64(len(scopes)))
	for _, s := range scopes {
		number(int64(s.Kind))
		text(s.ID)
	}
	names := make([]string, 0, len(families))
	for n := range families {
		names = append(names, n)
	}
	list(sorted(names, cmp.Compare[string]))
	if len(f.Zones) > 0 { // else as before there were any: tokens outlive an upgrade
		list(sorted(f.Zones, cmp.Compare[string]))
	}
	if restated {
		text("as restated")
	}
	var t tokens
	h.Sum(t.fingerprint[:0])
	return t
}

func sorted[T comparable](in []T, by func(a, b T) int) []T {
	out := slices.Clone(in)
	slices.SortFunc(out, by)
	return slices.Compact(out)
}

// encode returns the token that continues behind k.
func (t *tokens) encode(k bucket.Key) string {
	var whole [maxToken]byte
	b := whole[:0]
	b = append(b, tokenVersion, byte(k.Scope.Kind))
	b, _ = hex.AppendDecode(b, []byte(k.Scope.ID)) // of a stored bucket, so it was checked
	b = binary.BigEndian.AppendUint64(b, uint64(k.Start))
	b = append(b, k.Dataset...)
	b = append(b, t.sum(b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// decode returns the key behind which to continue; nil for the empty token.
func (t *tokens) decode(token string) (*bucket.Key, error) {
	if token == "" {
		return nil, nil
	}
	refused := badRequest("page_token does not belong to this request; send the token of the last response with the same request, or start again without a token")
	if len(token) > maxToken {
		return nil, refused
	}
	// Strict: without it the unused bits of the last character could be altered.
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) <= tokenFixed+tokenSum || b[0] != tokenVersion {
		return nil, refused
	}
	body, sum := b[:len(b)-tokenSum], b[len(b)-tokenSum:]
	if !slices.Equal(sum, t.sum(body)) {
		return nil, refused
	}
	k := &bucket.Key{
		Dataset: string(body[tokenFixed:]),
		Scope:   bucket.Scope{Kind: bucket.ScopeKind(body[1]), ID: hex.EncodeToString(body[2:18])},
		Start:   bucket.Time(binary.BigEndian.Uint64(body[18:])),
	}
	if wire.CheckDataset(k.Dataset) != nil || k.Scope.Validate() != nil {
		return nil, refused
	}
	return k, nil
}

func (t *tokens) sum(body []byte) []byte {
	var whole [sha256.Size + maxToken]byte // on the stack: each bucket of a list has a token
	sum := sha256.Sum256(append(append(whole[:0], t.fingerprint[:]...), body...))
	return sum[:tokenSum]
}
