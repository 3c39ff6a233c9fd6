package storetest

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// testDamaged: a row whose payload is not what was written is handed out
// everywhere with its place, its chain and its key, and without the payload; all
// others as they are. Its key stays taken.
func testDamaged(t *testing.T, d Driver) {
	if d.Damage == nil {
		t.Skip("asked of the same driver elsewhere")
	}
	opener, damage := d.Damage(t)
	s := reopen(t, opener)
	l := lead(t, s, "a")
	all := l.append(version("http_5m", 1), version("http_5m", 2))
	for n := range 4 {
		all = append(all, l.append(five(1, n))...)
	}
	large := five(1, 4)
	large.Payload = make([]byte, store.MaxPayload+1) // an older release could
	largest := five(1, 5)
	largest.Payload = make([]byte, store.MaxPayload)
	all = append(all, l.append(large)...)
	all = append(all, l.append(largest)...)
	damage("payload", all[1].Revision)
	damage("payload", all[3].Revision)
	damage("chain", all[4].Revision)

	whole := map[int]bool{0: true, 2: true, 5: true, 7: true}
	for what, got := range map[string][]store.Entry{
		"log": wholeLog(t, s),
		"snapshot": func() []store.Entry {
			_, entries := snapshot(t, s, store.SnapshotQuery{Since: origin})
			return entries
		}(),
		"list": append(all[:2:2], list(t, s, store.ListQuery{Window: bucket.Window{Start: origin, End: origin.Add(time.Hour)}})...),
		"buckets": append(all[:2:2], func() (found []store.Entry) {
			var keys []bucket.Key
			for _, e := range all[2:] {
				keys = append(keys, e.Key)
			}
			if err := s.Buckets(t.Context(), keys, func(e store.Entry) error {
				found = append(found, kept(e))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			return inOrder(found)
		}()...),
		"datasets": func() []store.Entry {
			entries, err := s.Datasets(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return append(entries, all[2:]...)
		}(),
	} {
		if len(got) != len(all) {
			t.Fatalf("%s: %d entries, want %d", what, len(got), len(all))
		}
		for i, e := range got {
			mine := (what == "list" || what == "buckets") && i < 2 || what == "datasets" && i >= 2 // not asked there
			if whole[i] || mine {
				equal(t, what, all[i], e)
				continue
			}
			if e.Damage == "" || e.Payload != nil {
				t.Errorf("%s: entry %d is damaged; it came with %d bytes, damage %q", what, i, len(e.Payload), e.Damage)
			}
			if e.Revision != all[i].Revision || e.Key != all[i].Key || e.End != all[i].End || i != 4 && e.Chain != all[i].Chain {
				t.Errorf("%s: entry %d is %+v, want the place and the key of %s at revision %d", what, i, e, all[i].Key, all[i].Revision)
			}
		}
	}
	for i, e := range all {
		chain, err := s.ChainAt(t.Context(), e.Revision)
		if i == 4 {
			wantError(t, "a chain that is cut", err, store.ErrCorrupt)
		} else if err != nil || chain != e.Chain {
			t.Errorf("chain of revision %d is %s, %v; want %s", e.Revision, chain, err, e.Chain)
		}
	}
	runs, err := s.Coverage(t.Context(), store.Filter{}, origin)
	if err != nil || len(runs) != 1 || runs[0].Window.Len() != 30*time.Minute {
		t.Errorf("coverage is %v, %v; what is damaged counts as stored", runs, err)
	}
	_, err = s.Append(t.Context(), l.term, l.at, l.batch(five(1, 1)))
	wantError(t, "the key of what is damaged", err, store.ErrDuplicate)
	l.append(five(1, 6))
}

// testAltered: a snapshot is held against the chain of the log: a payload that was
// altered together with its checksum is not handed out, and no other is missed.
func testAltered(t *testing.T, d Driver) {
	if d.Alter == nil {
		t.Skip("asked of the same driver elsewhere")
	}
	opener, alter, _ := d.Alter(t)
	s := reopen(t, opener)
	l := lead(t, s, "a")
	all := l.append(version("http_5m", 1))
	for n := range 6 {
		all = append(all, l.append(five(2, n), five(1, n))...)
	}
	for _, row := range []int{3, 8} {
		forged := sha256.Sum256([]byte("forged"))
		alter(fmt.Sprintf(`UPDATE bucket SET payload = %[1]s, checksum = %[2]s WHERE revision = %[3]d`,
			d.Bytes([]byte("forged")), d.Bytes(forged[:]), all[row].Revision))
	}
	head, entries := snapshot(t, s, store.SnapshotQuery{Since: origin})
	if len(entries) != len(all) || head.Revision != all[len(all)-1].Revision {
		t.Fatalf("%d entries at revision %d, want %d", len(entries), head.Revision, len(all))
	}
	for _, e := range entries {
		forged := e.Revision == all[3].Revision || e.Revision == all[8].Revision
		if (e.Damage != "") != forged || (e.Payload == nil) != forged {
			t.Errorf("revision %d (forged: %t) came with %d bytes, damage %q", e.Revision, forged, len(e.Payload), e.Damage)
		}
	}
}
