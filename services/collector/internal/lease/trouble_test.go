package lease_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/lease"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// told runs a campaign for a while on a way to the row, with work that ends with
// an error, and returns what it logged and when it asked.
func told(t *testing.T, way lease.Store, d time.Duration, work error) (logs *testkit.Logs, asked []time.Duration) {
	t.Helper()
	log, logs := testkit.RecordingLogger(t)
	ctx, stop := context.WithTimeout(t.Context(), d)
	defer stop()
	began := time.Now()
	err := lease.Run(ctx, lease.Config{
		Store: asking{way, func() { asked = append(asked, time.Since(began)) }}, Holder: store.Holder("a", "1"),
		TTL: lease.DefaultTTL, Trust: lease.DefaultTrust, Logger: log,
	}, func(ctx context.Context, _ store.Lease) error {
		if work == nil {
			<-ctx.Done()
		}
		return work
	})
	if err != nil {
		t.Fatal(err)
	}
	return logs, asked
}

// asking notes when the lease is asked for.
type asking struct {
	lease.Store
	note func()
}

func (a asking) Acquire(ctx context.Context, holder string, ttl time.Duration) (store.Lease, error) {
	a.note()
	return a.Store.Acquire(ctx, holder, ttl)
}

// The end of a term is told as loudly as its reason deserves, once an hour, and
// what does not pass by itself gets pauses that grow to a minute.
func TestTheEndOfATermIsToldByItsReason(t *testing.T) {
	for _, c := range []struct {
		err   error
		level string
		most  int // questions in an hour
	}{
		{store.ErrDeposed, "INFO", 1201},
		{store.ErrUnavailable, "WARN", 1201},
		{store.ErrDuplicate, "WARN", 1201},
		{store.ErrNoSpace, "ERROR", 65},
		{store.ErrReadOnly, "ERROR", 65},
		{store.ErrDenied, "ERROR", 65},
		{store.ErrSchema, "ERROR", 65},
		{store.ErrCorrupt, "ERROR", 65},
		{errors.New("a record that cannot be read"), "ERROR", 65},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logs, asked := told(t, &conn{row: &row{}}, time.Hour, fmt.Errorf("collect: %w", c.err))
				if len(asked) > c.most || len(asked) < 55 {
					t.Errorf("asked %d times in an hour, want 55 to %d", len(asked), c.most)
				}
				if asked[1] > lease.DefaultTTL/5 {
					t.Errorf("asked for the second time after %s", asked[1])
				}
				ended := logs.Count("no longer leading")
				if n := logs.Count("level=" + c.level + " msg=\"no longer leading\""); n == 0 || n > 8 || n > 2 && c.level != "INFO" {
					t.Errorf("%d of %d terms ended at %s", n, ended, c.level)
				}
				if n := logs.Count("level=INFO msg=leading"); n == 0 || n > 8 {
					t.Errorf("that it leads is told %d times", n)
				}
			})
		})
	}
}

// Another trouble after terms that were well is told again.
func TestTroubleAfterGoodTimesIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := testkit.RecordingLogger(t)
		ctx, stop := context.WithTimeout(t.Context(), 55*time.Minute)
		defer stop()
		err := lease.Run(ctx, lease.Config{
			Store: &conn{row: &row{}}, Holder: "a", TTL: lease.DefaultTTL, Trust: lease.DefaultTrust, Logger: log,
		}, func(context.Context, store.Lease) error {
			time.Sleep(10 * time.Minute)
			return store.ErrUnavailable
		})
		if n := logs.Count("level=WARN msg=\"no longer leading\""); err != nil || n != 5 {
			t.Errorf("told %d times, %v; want 5", n, err)
		}
	})
}

// readOnly takes no writes.
type readOnly struct{ *conn }

func (readOnly) Acquire(context.Context, string, time.Duration) (store.Lease, error) {
	return store.Lease{}, fmt.Errorf("acquire the lease: %w", store.ErrReadOnly)
}

// Where the lease cannot be taken nobody leads: said once, asked for in pauses
// that grow to a minute, and taken within a minute of the end of it.
func TestNobodyLeadsAReadOnlyStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs, asked := told(t, readOnly{&conn{row: &row{}}}, 55*time.Minute, nil)
		if n := logs.Count("cannot acquire the lease"); n < 55 || logs.Count("level=WARN") != 1 || logs.Count("msg=leading") != 0 {
			t.Errorf("%d questions, %d warnings", n, logs.Count("level=WARN"))
		}
		for i, last := range asked[1:] {
			if pause := last - asked[i]; pause > time.Minute || i > 6 && pause != time.Minute {
				t.Fatalf("pause %d is %s", i, pause)
			}
		}
	})
}

// A second process with the name of the first stands by, and tells of it when it
// is sure that the first lives: what a process of its own name left behind when it
// was killed is no rival.
func TestARivalOfTheSameNameIsTold(t *testing.T) {
	for _, c := range []struct {
		name  string
		first string
		alive bool
		want  []string
	}{
		{"a living one", store.Holder("a", "0"), true, []string{store.Holder("a", "0"), ""}},
		{"of a release before", "a", true, []string{"a", ""}},
		{"what was left behind", store.Holder("a", "0"), false, nil},
		{"another name", store.Holder("b", "0"), true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := &row{term: 1, holder: c.first, expires: time.Now().Add(lease.DefaultTTL)}
				ctx, stop := context.WithCancel(t.Context())
				var rivals []string
				done, leads := make(chan error, 1), make(chan struct{}, 1)
				go func() {
					done <- lease.Run(ctx, lease.Config{
						Store: &conn{row: db}, Holder: store.Holder("a", "1"), TTL: lease.DefaultTTL, Trust: lease.DefaultTrust,
						Logger: testkit.Logger(t),
						Contested: func(holder string) {
							if len(rivals) == 0 || rivals[len(rivals)-1] != holder {
								rivals = append(rivals, holder)
							}
						},
					}, func(ctx context.Context, _ store.Lease) error { leads <- struct{}{}; <-ctx.Done(); return nil })
				}()
				for range 100 { // the rival renews for five minutes
					time.Sleep(3 * time.Second)
					db.mu.Lock()
					if c.alive {
						db.expires = time.Now().Add(lease.DefaultTTL)
					}
					db.mu.Unlock()
				}
				if c.alive && len(leads) > 0 {
					t.Error("the living one was deposed")
				}
				time.Sleep(lease.DefaultTTL + 4*time.Second) // and ends
				synctest.Wait()
				if len(leads) != 1 {
					t.Error("it does not lead when it could")
				}
				stop()
				<-done
				if !slices.Equal(rivals, c.want) {
					t.Errorf("rivals told: %q, want %q", strings.Join(rivals, ","), strings.Join(c.want, ","))
				}
			})
		})
	}
}
