package progress

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Without a terminal there is one line a minute, however often something is done.
func TestLines(t *testing.T) {
	var b strings.Builder
	m := New(&b, "compare")
	at := time.Unix(0, 0)
	m.now, m.last = func() time.Time { return at }, at
	for i := range 13 {
		m.Set(i, 12)
		at = at.Add(15 * time.Second)
	}
	m.Wait("the collector is away") // a second line in that minute
	at = at.Add(time.Minute)
	m.Wait("the collector is away")
	m.Close()
	if diff := cmp.Diff("compare: 4 of 12 (33%)\ncompare: 8 of 12 (66%)\ncompare: 12 of 12 (100%)\ncompare: 12 of 12 (100%); the collector is away\n", b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// While nothing goes on there is a line a minute, until all is done.
func TestReminders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		m := New(&b, "compare")
		m.Set(0, 12)
		stop := m.Remind()
		time.Sleep(150 * time.Second)
		m.Set(6, 12)
		time.Sleep(90 * time.Second)
		m.Set(12, 12)
		time.Sleep(10 * time.Minute)
		stop()
		m.Close()
		const want = `compare: 0 of 12 (0%); unchanged since 2000-01-01T00:00:00Z
compare: 0 of 12 (0%); unchanged since 2000-01-01T00:00:00Z
compare: 6 of 12 (50%); unchanged since 2000-01-01T00:02:30Z
`
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
