package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/pgtest"
)

// note is a line of the journal: one change of the log's row.
type note struct {
	at                                 time.Time
	who, holder                        string
	term, termBefore, head, headBefore int
	renewed                            bool
}

func (c *campaign) notes() (out []note) {
	rows := pgtest.Exec(c.t, c.dsn, `SELECT (extract(epoch FROM at) * 1000000)::bigint, who, holder, term, term_before, head, head_before, renewed
		FROM journal ORDER BY number`)
	for line := range strings.Lines(rows) {
		f := strings.Split(strings.TrimSpace(line), "|")
		number := func(i int) int {
			n, err := strconv.Atoi(f[i])
			if err != nil {
				c.t.Fatalf("the journal has %q: %v", line, err)
			}
			return n
		}
		out = append(out, note{
			time.UnixMicro(int64(number(0))), f[1], f[2], number(3), number(4), number(5), number(6), f[7] == "t",
		})
	}
	return out
}

// checkLeader checks that every term had one process that wrote, the one that
// had taken the lease, that terms and revisions ascend together (G9), and that
// nobody asked Cloudflare while another one led.
func (c *campaign) checkLeader() {
	var wrong []string
	leads := map[string][]span{} // by name: from taking the lease until another one took it
	leader := ""
	var last note
	terms := 0
	notes := c.notes()
	for i, n := range notes {
		if i > 0 && (n.term < last.term || n.head < last.head || n.headBefore != last.head || n.termBefore != last.term) {
			wrong = append(wrong, fmt.Sprintf("the log went from term %d, head %d to %d, %d", last.term, last.head, n.term, n.head))
		}
		taken := n.term > n.termBefore && n.renewed && (n.who != leader || leader == "")
		switch {
		case taken:
			if n.who != n.holder {
				wrong = append(wrong, fmt.Sprintf("%s took the lease in the name of %s", n.who, n.holder))
			}
			if s := leads[leader]; len(s) > 0 {
				s[len(s)-1].to = n.at
			}
			leader = n.who
			leads[leader] = append(leads[leader], span{from: n.at})
			terms++
		case n.who != n.holder:
			wrong = append(wrong, fmt.Sprintf("%s moved the log from %d to %d in term %d, which is that of %s", n.who, n.headBefore, n.head, n.term, n.holder))
		}
		last = n
	}
	c.violations("leader", wrong)
	asked := 0
	var strangers []string
	for i, m := range c.collectors {
		for _, at := range c.toCloudflare[i].questions() {
			asked++
			if other := led(leads, at, m.part.Name); other != "" && !m.justThawed(at) {
				strangers = append(strangers, fmt.Sprintf("%s asked Cloudflare at %s, while %s led", m.part.Name, at.UTC().Format("15:04:05.000"), other))
			}
		}
	}
	c.violations("budget's holder", strangers)
	c.t.Logf("the lease changed hands %d times, the log's row changed %d times; %d questions to Cloudflare", terms, len(notes), asked)
}

// led is who led at a time, with half a second on either side, if it was
// somebody else.
func led(leads map[string][]span, at time.Time, but string) string {
	const margin = 500 * time.Millisecond
	for name, spans := range leads {
		for _, s := range spans {
			if name != but && at.After(s.from.Add(margin)) && (s.to.IsZero() || at.Before(s.to.Add(-margin))) {
				return name
			}
		}
	}
	return ""
}

// justThawed says whether a process may still believe that it leads because it
// was stopped at a time shortly before: what it was about to do when it was
// stopped it does when it goes on.
func (m *member) justThawed(at time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.frozen {
		if at.After(s.from) && (s.to.IsZero() || at.Before(s.to.Add(2*time.Second))) {
			return true
		}
	}
	return false
}
