package poll

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// take takes one errand, as the loop does.
func take(d *desk) *errand { return <-d.errands }

// A request is carried out by the goroutine of the term or not at all, and the caller is
// told which, or that it is not known.
func TestRequestsAreCarriedOutByTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reception
		ask := func(ctx context.Context, do func() error) <-chan error {
			got := make(chan error, 1)
			go func() { got <- r.ask(ctx, func(context.Context, *state) error { return do() }) }()
			synctest.Wait()
			return got
		}
		never := func() error { t.Error("the request was carried out"); return nil }
		if err := <-ask(t.Context(), never); !errors.Is(err, ErrNotLeading) {
			t.Errorf("without a term: %v", err)
		}

		d, end := r.open()
		s := &state{desk: d}
		n := 0
		got := ask(t.Context(), func() error { n++; return nil })
		if n != 0 {
			t.Fatal("the caller carried it out itself")
		}
		if err := s.serve(t.Context(), take(d)); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil || n != 1 {
			t.Errorf("%v after it was carried out %d times", err, n)
		}

		// A refusal is the caller's alone; another error ends the term.
		got = ask(t.Context(), func() error { return refuse(Refused, "no") })
		if err := s.serve(t.Context(), take(d)); err != nil {
			t.Errorf("a refusal ends the term: %v", err)
		}
		if err := <-got; err == nil || err.Error() != "no" {
			t.Errorf("refused: %v", err)
		}
		// What another term began is not carried out, and does not end this one.
		got = ask(t.Context(), func() error { return fmt.Errorf("%w any more", ErrNotLeading) })
		if err := s.serve(t.Context(), take(d)); err != nil {
			t.Errorf("a request of another term ends this one: %v", err)
		}
		if err := <-got; !errors.Is(err, ErrNotLeading) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("a request of another term: %v", err)
		}
		broken := errors.New("broken")
		got = ask(t.Context(), func() error { return broken })
		if err := s.serve(t.Context(), take(d)); !errors.Is(err, broken) {
			t.Errorf("the term goes on after %v", err)
		}
		if err := <-got; !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, broken) {
			t.Errorf("a failed append: %v", err)
		}

		// A caller whose deadline passes before it is taken: not carried out.
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := <-ask(short, never)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) || !strings.Contains(err.Error(), "not carried out") {
			t.Errorf("not taken in time: %v", err)
		}
		// After it is taken: not known, and the loop is not held up.
		short, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got = ask(short, func() error { return nil })
		e := take(d)
		if err := <-got; !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("taken, and not done in time: %v", err)
		}
		if err := s.serve(t.Context(), e); err != nil {
			t.Fatal(err)
		}

		// The term ends: those that wait are told at once, and later ones too.
		got = ask(t.Context(), never)
		end()
		if err := <-got; !errors.Is(err, ErrNotLeading) {
			t.Errorf("when the term ended: %v", err)
		}
		if err := <-ask(t.Context(), never); !errors.Is(err, ErrNotLeading) {
			t.Errorf("after the term: %v", err)
		}
	})
}

// The result of a request whose caller has left is dropped.
func TestAnswersOfCallersThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reception
		d, end := r.open()
		defer end()
		ctx, leave := context.WithCancel(t.Context())
		got := make(chan int, 1)
		go func() {
			n, _ := answer(ctx, &r, func(context.Context, *state) (int, error) { return 7, nil })
			got <- n
		}()
		e := take(d)
		leave()
		if n := <-got; n != 0 {
			t.Errorf("a caller that left got %d", n)
		}
		if err := (&state{desk: d}).serve(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	})
}
