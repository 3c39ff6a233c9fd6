package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/weir-metrics/weir/internal/loopback"
	"github.com/weir-metrics/weir/internal/reload"
)

// Limits of every HTTP listener, besides those in connections.go. A client that sends its
// request more slowly is broken or hostile. A handler whose response may take longer sets
// other deadlines with http.ResponseController. Over HTTP/2 a deadline that passes ends the
// response even if nothing is being written.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = time.Minute
	idleTimeout       = 5 * time.Minute // longer than a scrape interval: connections are reused
	maxHeaderBytes    = 64 << 10

	// defaultShutdown is how long requests may continue after the listener was
	// closed: within Kubernetes' 30 s between the first signal and the kill.
	defaultShutdown = 15 * time.Second
)

// ServerConfig is the configuration of a listener.
type ServerConfig struct {
	// Name identifies the listener in the log: data, operations.
	Name string
	// Address is the host:port to listen on. Not used with a Listener.
	Address string
	// Listener is an open listener, which Serve closes.
	Listener net.Listener
	// WebConfigFile is a file for the Prometheus exporter toolkit with TLS, basic
	// authentication and headers; empty for plain HTTP. It and the files that it
	// names are reloaded for each connection and request. The last valid content
	// stays in use.
	WebConfigFile string
	// WebConfigSetting is the setting that names the file, for logs and metrics.
	WebConfigSetting string
	// Tokens is the setting that names the bearer tokens of which the handler needs one; empty: it
	// needs none. A request has one Authorization header, so there are no passwords besides.
	Tokens string
	// Watch reports changes of these files; may be nil.
	Watch *reload.Watch
	// Drain is how long to continue to accept after the context ends. Readiness
	// already fails then, and load balancers need time to notice it.
	Drain time.Duration
	// Shutdown is how long requests may continue after that before they are
	// aborted; 0: 15 s.
	Shutdown time.Duration
	Logger   *slog.Logger
}

// Serve serves handler until ctx ends, then drains and shuts down. It returns nil if all
// requests were completed. An invalid web configuration and an address in use are
// immediate errors.
func Serve(ctx context.Context, cfg ServerConfig, handler http.Handler) error {
	listener := cfg.Listener
	var before *front
	if cfg.WebConfigFile != "" {
		var err error
		if before, err = newFront(cfg.WebConfigFile, cfg.Watch, cfg.WebConfigSetting); err != nil {
			if listener != nil {
				err = errors.Join(err, listener.Close())
			}
			return fmt.Errorf("%s listener: %s is %s: %w", cfg.Name, cmp.Or(cfg.WebConfigSetting, "web configuration"), cfg.WebConfigFile, err)
		}
		if cfg.Tokens != "" && len(before.kept.Get().Users) > 0 {
			err = fmt.Errorf("%s listener: basic_auth_users of the file of %s and tokens of %s exclude one another; give each user a token", cfg.Name, cmp.Or(cfg.WebConfigSetting, "web configuration"), cfg.Tokens)
			if listener != nil {
				err = errors.Join(err, listener.Close())
			}
			return err
		}
		handler = before.before(handler)
	}
	if listener == nil {
		var err error
		if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.Address); err != nil {
			return fmt.Errorf("%s listener: %w", cfg.Name, err)
		}
	}
	log := cfg.Logger.With("listener", cfg.Name)
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: streamsPerConnection},
		ConnState:         newConnections(mostConnections, log).track,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // failed handshakes and other errors of clients
	}
	secure := before != nil && before.configure(server)
	log.Info("serving HTTP", "address", listener.Addr().String(), "tls", secure)
	if !secure && cfg.WebConfigSetting != "" {
		logPlain(log, listener.Addr(), cfg.Tokens != "" || before != nil && len(before.kept.Get().Users) > 0, cfg.WebConfigSetting)
	}
	served := make(chan error, 1)
	go func() {
		if secure {
			served <- server.ServeTLS(listener, "", "")
			return
		}
		served <- server.Serve(listener)
	}()

	select {
	case err := <-served:
		return fmt.Errorf("%s listener: %w", cfg.Name, err)
	case <-ctx.Done():
	}
	if err := linger(served, cfg.Drain); err != nil {
		return fmt.Errorf("%s listener: %w", cfg.Name, err)
	}
	timeout := cfg.Shutdown
	if timeout == 0 {
		timeout = defaultShutdown
	}
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	err := server.Shutdown(shutdown)
	if err != nil {
		err = fmt.Errorf("%s listener: requests did not end within %v and were aborted: %w", cfg.Name, timeout, errors.Join(err, server.Close()))
	}
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("%s listener: %w", cfg.Name, end))
	}
	return err
}

// logPlain logs that the listener serves other machines in plain text. This is the
// default, and correct behind a proxy or in a service mesh. With passwords or tokens it is
// a warning.
func logPlain(log *slog.Logger, a net.Addr, secrets bool, setting string) {
	switch {
	case loopback.Addr(a):
	case secrets:
		log.Warn("passwords or tokens are sent in plain text over the network; unless a proxy in front adds TLS, add tls_server_config to the file of "+setting, "address", a.String())
	default:
		log.Info("serving HTTP in plain text over the network; unless a proxy in front adds TLS, set "+setting, "address", a.String())
	}
}

// linger waits for d or until the server fails.
func linger(served <-chan error, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-served:
		return err
	case <-timer.C:
		return nil
	}
}
