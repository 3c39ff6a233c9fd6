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

// Limits of every HTTP listener, with those in connections.go. A client that
// sends its request slower than this is broken or hostile. A handler whose
// answer may take longer to make or to send gives itself other deadlines, by
// http.ResponseController; over HTTP/2 one that passes ends the answer even
// while nobody writes.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = time.Minute
	idleTimeout       = 5 * time.Minute // longer than a scrape interval: connections are reused
	maxHeaderBytes    = 64 << 10

	// defaultShutdown is how long requests may run on after the listener was
	// closed: within Kubernetes' 30 s between the first signal and the kill.
	defaultShutdown = 15 * time.Second
)

// ServerConfig says where and how to listen.
type ServerConfig struct {
	// Name tells the process's listeners apart in its log: data, operations.
	Name string
	// Address is the host:port to listen on. Not used with a Listener.
	Address string
	// Listener is an open listener, which Serve closes.
	Listener net.Listener
	// WebConfigFile is a file for the Prometheus exporter toolkit with TLS,
	// basic authentication and headers; empty for plain HTTP. It and the files
	// that it names are read again for each connection and request, and the
	// last that were good are in force.
	WebConfigFile string
	// WebConfigSetting is the setting that names the file, for logs and metrics.
	WebConfigSetting string
	// Watch is told of changes of these files; nil: nobody is.
	Watch *reload.Watch
	// Drain is how long to go on accepting after the context ended: readiness
	// says no by then, and whoever balances load needs a moment to see it.
	Drain time.Duration
	// Shutdown is how long requests may run on after that before they are cut
	// off; zero means 15 s.
	Shutdown time.Duration
	Logger   *slog.Logger
}

// Serve answers requests with handler until ctx ends, then drains and shuts
// down, and returns nil when all requests were answered. A wrong web
// configuration and an address in use are errors at once.
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
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // failed handshakes and the like: the clients' trouble
	}
	secure := before != nil && before.configure(server)
	log.Info("serving HTTP", "address", listener.Addr().String(), "tls", secure)
	if !secure && cfg.WebConfigSetting != "" {
		logPlain(log, listener.Addr(), before != nil && len(before.kept.Get().Users) > 0, cfg.WebConfigSetting)
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

// logPlain logs that the listener serves other machines in plain text. That is the
// default, and right behind a proxy or in a service mesh; with passwords it is a warning.
func logPlain(log *slog.Logger, a net.Addr, passwords bool, setting string) {
	switch {
	case loopback.Addr(a):
	case passwords:
		log.Warn("passwords are sent in plain text over the network; unless a proxy in front adds TLS, add tls_server_config to the file of "+setting, "address", a.String())
	default:
		log.Info("serving HTTP in plain text over the network; unless a proxy in front adds TLS, set "+setting, "address", a.String())
	}
}

// linger waits for d, or for the server to fail meanwhile.
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
