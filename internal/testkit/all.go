package testkit

import (
	"os"
	"testing"
)

// All reports whether TEST_ALL is set, as "make test-all" sets it: then stories
// are told at full length, and each case of a matrix runs. Where it is not, a
// test keeps what shows its rule.
func All() bool { return os.Getenv("TEST_ALL") != "" }

// InAll skips a test that is left to "make test-all": a campaign, or once more
// what another test shows, in another role or on another version.
func InAll(t testing.TB) {
	t.Helper()
	if !All() {
		t.Skip("left to make test-all, which sets TEST_ALL")
	}
}
