package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// channel is where every append is announced.
const channel = "weir_log"

// Wake implements [store.Store]. Behind a transaction pooler it tells of this
// process's own appends only.
func (s *Store) Wake() <-chan struct{} { return s.wake }

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // one wake-up is pending already
	}
}

// listening is the connection that listens; it is in no pool.
type listening struct {
	mu   sync.Mutex
	stop context.CancelCauseFunc // nil: there is none
}

// errReplaced ends a connection that was made with an older connection string.
var errReplaced = errors.New("the connection string has changed")

// replace ends the connection, so that another is made.
func (l *listening) replace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil {
		l.stop(errReplaced)
	}
}

func (l *listening) begin(ctx context.Context) context.Context {
	ctx, stop := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop = stop
	return ctx
}

// listen signals the appends of other processes until ctx ends. It only saves time: a
// lost notification delays readers by one polling interval.
func (s *Store) listen(ctx context.Context) {
	const least, most = 100 * time.Millisecond, 10 * time.Second
	wait := least
	for {
		began := time.Now()
		this := s.listening.begin(ctx)
		err := s.listenOnce(this)
		replaced := errors.Is(context.Cause(this), errReplaced)
		s.listening.replace() // frees its context
		if ctx.Err() != nil {
			return
		}
		if replaced {
			continue
		}
		if time.Since(began) > most {
			wait = least
		}
		s.often.Warn("", "LISTEN for appends was interrupted, polling instead", "err", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait/2)): // not all standbys at once
		}
		wait = min(2*wait, most)
	}
}

func (s *Store) listenOnce(ctx context.Context) error {
	config, err := s.connection(ctx, reading)
	if err != nil {
		return err
	}
	// There is no statement to cancel; waiting for the server to say so would
	// make Close slow.
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: conn.Conn()}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		// Once before the first: something may have been missed until now.
		s.signal()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}
