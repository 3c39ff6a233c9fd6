package sqlite_test

import (
	"errors"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// TestMend: what an operator must mend, and what is wrong with one value, has an
// error of its own, nothing is written, and the same store goes on when it is
// mended.
func TestMend(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		want       error
		harm, mend string
	}{
		"read-only":      {store.ErrReadOnly, `PRAGMA query_only = 1`, `PRAGMA query_only = 0`},
		"missing table":  {store.ErrSchema, `ALTER TABLE record RENAME TO gone`, `ALTER TABLE gone RENAME TO record`},
		"missing column": {store.ErrSchema, `ALTER TABLE record RENAME COLUMN value TO gone`, `ALTER TABLE record RENAME COLUMN gone TO value`},
		"a trigger": {
			store.ErrInvalid, `CREATE TRIGGER no BEFORE INSERT ON record BEGIN SELECT RAISE(ABORT, 'not that one'); END`, `DROP TRIGGER no`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, newFile(t))
			lease, err := s.Acquire(t.Context(), "test", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			b := batch(0)
			b.Records = []store.Record{{Kind: "gap", Key: "1", Value: []byte(`1`)}}
			s.Exec(t, c.harm)
			if _, err := s.Append(t.Context(), lease.Term, lease.Head.Position, b); !errors.Is(err, c.want) || store.NeedsRepair(err) == store.ContentRejected(err) {
				t.Errorf("append: %v, want %v", err, c.want)
			}
			if head, err := s.Head(t.Context()); err != nil || head.Revision != 0 {
				t.Errorf("the head is %d, %v; want 0", head.Revision, err)
			}
			s.Exec(t, c.mend)
			if head, err := s.Append(t.Context(), lease.Term, lease.Head.Position, b); err != nil || head.Revision != 1 {
				t.Errorf("append when it is mended: %d, %v", head.Revision, err)
			}
		})
	}
}
