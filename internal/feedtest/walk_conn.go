package feedtest

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// line is a follower's way to the servers: it can be cut at any byte, held so
// that nothing more arrives, and led to another server.
type line struct {
	mu     sync.Mutex
	dial   func(ctx context.Context) (net.Conn, error) // to the server of the day
	open   map[*cable]bool
	budget int           // bytes until the line is cut; negative: it is not
	gate   chan struct{} // closed: bytes pass
}

func newLine() *line {
	passing := make(chan struct{})
	close(passing)
	return &line{open: map[*cable]bool{}, budget: -1, gate: passing}
}

// conn returns a client connection over the line. Attempts come quickly: the
// line is cut on purpose.
func (l *line) conn() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///walk",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond}, MinConnectTimeout: 10 * time.Second}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			l.mu.Lock()
			dial := l.dial
			l.mu.Unlock()
			c, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			cut := &cable{Conn: c, line: l, closed: make(chan struct{})}
			l.open[cut] = true
			return cut, nil
		}))
}

// lead makes later connections go elsewhere.
func (l *line) lead(dial func(ctx context.Context) (net.Conn, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dial = dial
}

// cut closes the line after so many more bytes from the server; 0: now.
func (l *line) cut(after int) {
	l.mu.Lock()
	if after > 0 {
		l.budget = after
		l.mu.Unlock()
		return
	}
	l.budget = -1
	open := make([]*cable, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// hold lets no byte from the server pass until release.
func (l *line) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.gate:
		l.gate = make(chan struct{})
	default: // held already
	}
}

func (l *line) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.gate:
	default:
		close(l.gate)
	}
}

// cable is one connection of a line.
type cable struct {
	net.Conn
	line *line

	once   sync.Once
	closed chan struct{}
}

func (c *cable) Read(p []byte) (int, error) {
	c.line.mu.Lock()
	gate, budget := c.line.gate, c.line.budget
	c.line.mu.Unlock()
	select {
	case <-gate:
	case <-c.closed:
		return 0, net.ErrClosed
	}
	if budget >= 0 {
		p = p[:min(len(p), max(budget, 1))]
	}
	n, err := c.Conn.Read(p)
	c.line.mu.Lock()
	if c.line.budget >= 0 {
		if c.line.budget -= n; c.line.budget <= 0 {
			c.line.budget = -1
			c.line.mu.Unlock()
			return 0, errors.Join(errCut, c.Close())
		}
	}
	c.line.mu.Unlock()
	return n, err
}

// Write closes a cable whose other end is gone: a reader behind the gate would
// never learn of it, and gRPC leaves that to the reader.
func (c *cable) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

var errCut = errors.New("the line was cut")

func (c *cable) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.line.mu.Lock()
	delete(c.line.open, c)
	c.line.mu.Unlock()
	return c.Conn.Close()
}

// heal takes back what was done to the line.
func (l *line) heal() {
	l.mu.Lock()
	l.budget = -1
	l.mu.Unlock()
	l.release()
}
