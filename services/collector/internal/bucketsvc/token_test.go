package bucketsvc

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

func sampleTokens() tokens {
	f := feed.Filter{Filter: store.Filter{Datasets: []string{"http_5m", "dns_5m"}, Scopes: []bucket.Scope{feedtest.Zone(1), feedtest.Zone(2)}}}
	return newTokens(f, bucket.Window{Start: 300, End: 900}, map[string]bool{"a": true, "b": true}, false)
}

func TestTokenRoundTrip(t *testing.T) {
	tokens := sampleTokens()
	for _, want := range []bucket.Key{
		{Dataset: "http_5m", Scope: feedtest.Zone(1), Start: 300},
		{Dataset: "x", Scope: bucket.Scope{Kind: bucket.Account, ID: feedtest.Zone(9).ID}, Start: endOfTime},
	} {
		token := tokens.encode(want)
		got, err := tokens.decode(token)
		if err != nil || *got != want {
			t.Errorf("%v became %v, %v", want, got, err)
		}
		if len(token) > maxToken {
			t.Errorf("token has %d characters; decode takes %d", len(token), maxToken)
		}
	}
	if k, err := tokens.decode(""); k != nil || err != nil {
		t.Errorf("no token became %v, %v; want the beginning", k, err)
	}
}

// The same request in other words is the same request.
func TestTokenDoesNotDependOnOrder(t *testing.T) {
	tokens := sampleTokens()
	f := feed.Filter{Filter: store.Filter{Datasets: []string{"dns_5m", "http_5m", "dns_5m"}, Scopes: []bucket.Scope{feedtest.Zone(2), feedtest.Zone(1)}}}
	other := newTokens(f, bucket.Window{Start: 300, End: 900}, map[string]bool{"b": true, "a": true}, false)
	token := tokens.encode(bucket.Key{Dataset: "http_5m", Scope: feedtest.Zone(1), Start: 300})
	if _, err := other.decode(token); err != nil {
		t.Error(err)
	}
}

// Lists of names must not run into one another: the fingerprint counts lengths.
func TestTokenTellsListsApart(t *testing.T) {
	w := bucket.Window{Start: 300, End: 900}
	seen := map[[32]byte]int{}
	for i, f := range []struct {
		datasets []string
		families map[string]bool
	}{
		{[]string{"ab"}, nil}, {[]string{"a", "b"}, nil}, {nil, map[string]bool{"ab": true}}, {[]string{"a"}, map[string]bool{"b": true}}, {nil, nil},
	} {
		p := newTokens(feed.Filter{Filter: store.Filter{Datasets: f.datasets}}, w, f.families, false).fingerprint
		if j, ok := seen[p]; ok {
			t.Errorf("requests %d and %d have the same fingerprint", i, j)
		}
		seen[p] = i
	}
}

// Whatever a client sends is a key of this request or an error.
func FuzzToken(f *testing.F) {
	tokens := sampleTokens()
	f.Add(tokens.encode(bucket.Key{Dataset: "http_5m", Scope: feedtest.Zone(1), Start: bucket.TimeOf(time.Unix(600, 0))}))
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, token string) {
		k, err := tokens.decode(token)
		if err != nil || k == nil {
			return
		}
		if again := tokens.encode(*k); again != token {
			t.Errorf("%q was accepted; the token of its key is %q", token, again)
		}
	})
}

// A token of whatever request and key is taken back by that request alone, and
// not at all once a byte of it has changed.
func FuzzTokenOfAnotherRequest(f *testing.F) {
	f.Add("http_5m", "dns_5m", int64(300), int64(900), "a", 3, byte(1))
	f.Add("", "", int64(0), int64(1), "", 0, byte(0))
	f.Fuzz(func(t *testing.T, mine, other string, start, end int64, family string, at int, flip byte) {
		w := bucket.Window{Start: bucket.Time(start), End: bucket.Time(end)}
		of := func(dataset string) tokens {
			return newTokens(feed.Filter{Filter: store.Filter{Datasets: []string{dataset}}}, w, map[string]bool{family: true}, false)
		}
		ours, theirs := of(mine), of(other)
		key := bucket.Key{Dataset: "http_5m", Scope: feedtest.Zone(1), Start: bucket.Time(start)}
		token := ours.encode(key)
		if k, err := ours.decode(token); err != nil || *k != key {
			t.Fatalf("%v became %v, %v", key, k, err)
		}
		if _, err := theirs.decode(token); (err == nil) != (mine == other) {
			t.Fatalf("the token of a request for %q was accepted by one for %q: %t", mine, other, err == nil)
		}
		altered := []byte(token)
		altered[uint(at)%uint(len(altered))] ^= flip
		if k, err := ours.decode(string(altered)); err == nil && string(altered) != token {
			t.Fatalf("%q was accepted as %v; the token is %q", altered, k, token)
		}
	})
}
