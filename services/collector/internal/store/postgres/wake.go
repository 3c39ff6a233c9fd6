package postgres

import (
	"context"
	"math/rand/v2"
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

// listen signals what other processes announce, until ctx ends. It is only a
// convenience: an announcement that is lost costs one interval of polling.
func (s *Store) listen(ctx context.Context, config *pgx.ConnConfig) {
	const least, most = 100 * time.Millisecond, 10 * time.Second
	wait := least
	for {
		began := time.Now()
		err := s.listenOnce(ctx, config)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > most {
			wait = least
		}
		s.log.Warn("listening for appends was interrupted; polling goes on", "err", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait/2)): // not all standbys at once
		}
		wait = min(2*wait, most)
	}
}

func (s *Store) listenOnce(ctx context.Context, config *pgx.ConnConfig) error {
	config = config.Copy()
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
