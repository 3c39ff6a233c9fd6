package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// address is the connection string in use. It is reloaded every few seconds and before
// each new connection, and the files that it names with each connection, so passwords,
// roles, certificates and hosts can change without a restart.
//
// A changed string is used once a connection has succeeded with it; then all existing
// connections are replaced. So a string that does not work yet, because the password in
// the database is changed a moment later or the file is half written, does not break
// working connections.
type address struct {
	reread func() (string, error)        // nil: the string never changes
	report func(changed bool, err error) // called with the result of each reload
	pooled bool

	mu      sync.Mutex
	dsn     string // in use
	storeID string // of the store at dsn; empty until known

	trying  sync.Mutex // held while a changed string is tried
	tried   string     // the string that did not work, or the error of reading it
	triedAt time.Time
}

func (a *address) current() (dsn, storeID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dsn, a.storeID
}

// opened records which store the address leads to.
func (a *address) opened(storeID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.storeID = storeID
}

// config is the configuration of a new connection with the string in use.
func (a *address) config(of access) (*pgxpool.Config, error) {
	dsn, _ := a.current()
	return a.parse(dsn, of)
}

func (a *address) parse(dsn string, of access) (*pgxpool.Config, error) {
	config, err := parse(dsn)
	if err != nil {
		return nil, err
	}
	prepare(config.ConnConfig, a.pooled, session[of])
	return config, nil
}

// adopt reloads the connection string and uses it if it has changed and works. It
// reports whether it did.
func (a *address) adopt(ctx context.Context) bool {
	if a.reread == nil {
		return false
	}
	a.trying.Lock()
	defer a.trying.Unlock()
	dsn, err := a.reread()
	if err != nil {
		dsn = err.Error() // identifies the failed attempt in tried
	} else if now, _ := a.current(); dsn == now {
		a.tried = ""
		a.report(false, nil)
		return false
	}
	if dsn == a.tried && time.Since(a.triedAt) < retryAfter {
		return false
	}
	if err == nil {
		err = a.try(ctx, dsn)
	}
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		a.tried, a.triedAt = dsn, time.Now()
		a.report(false, err)
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dsn, a.tried = dsn, ""
	a.report(true, nil)
	return true
}

// try connects with a string. A string that leads to another store is rejected: the
// coverage in this process's memory belongs to its own store.
func (a *address) try(ctx context.Context, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+writeTimeout)
	defer cancel()
	config, err := a.parse(dsn, reading)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, want := a.current()
	if want == "" {
		return nil
	}
	var found string
	if err := conn.QueryRow(ctx, `SELECT store_id FROM log`).Scan(&found); err != nil {
		return err
	}
	if found != want {
		return fmt.Errorf("it leads to store %s, but this process uses store %s: restart it to change the store", found, want)
	}
	return nil
}

// newPool creates a pool whose new connections use the current address.
func (s *Store) newPool(of access, conns int) (*pgxpool.Pool, error) {
	config, err := s.address.config(of)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns, config.MinIdleConns = int32(conns), 0, 0
	// Otherwise the first statement would detect a dead server, and its outcome would
	// be unknown.
	config.PingTimeout = connectTimeout
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		now, err := s.connection(ctx, of)
		if err == nil {
			*c = *now
		}
		return err
	}
	return pgxpool.NewWithConfig(context.Background(), config)
}

// connection is the configuration of a new connection, after a reload of the address.
func (s *Store) connection(ctx context.Context, of access) (*pgx.ConnConfig, error) {
	s.adopt(ctx)
	config, err := s.address.config(of)
	if err != nil {
		return nil, err
	}
	return config.ConnConfig, nil
}

func (s *Store) adopt(ctx context.Context) {
	if s.address.adopt(ctx) {
		s.replace()
	}
}

// follow reloads the connection string periodically until ctx ends, since the pools may
// not need a new connection for long.
func (s *Store) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.adopt(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// replace closes all connections, those in use as soon as they are free.
func (s *Store) replace() {
	s.writer.Reset()
	s.reader.Reset()
	s.listening.replace()
}

// errPlain is the error of a warning.
var errPlain = errors.New("connections may be unencrypted, including password hashes and data: set sslmode=verify-full and sslrootcert in the connection string")

// checkTLS returns errPlain for a connection string that allows connections
// without TLS to another machine, which libpq's default, sslmode=prefer, does.
func checkTLS(c *pgx.ConnConfig) error {
	plain := func(host string, tls bool) bool {
		ip, err := netip.ParseAddr(host)
		local := strings.HasPrefix(host, "/") || host == "localhost" || err == nil && ip.IsLoopback()
		return !tls && !local
	}
	if plain(c.Host, c.TLSConfig != nil) {
		return errPlain
	}
	for _, f := range c.Fallbacks {
		if plain(f.Host, f.TLSConfig != nil) {
			return errPlain
		}
	}
	return nil
}
