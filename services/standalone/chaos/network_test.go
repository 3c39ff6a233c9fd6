package chaos

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// network connects processes in memory, by name.
type network struct {
	mu    sync.Mutex
	ports map[string]*port // "collector-a/grpc"
}

// port is one open listener of one life.
type port struct {
	*bufconn.Listener
	l *life

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newNetwork() *network { return &network{ports: map[string]*port{}} }

// listen opens a port, which closes, with all its connections, when the life
// ends by force.
func (n *network) listen(l *life, name string) net.Listener {
	p := &port{Listener: bufconn.Listen(256 << 10), l: l, conns: map[net.Conn]struct{}{}}
	n.mu.Lock()
	n.ports[l.name+"/"+name] = p
	n.mu.Unlock()
	l.onKill = append(l.onKill, func() {
		_ = p.Close()
		p.cut()
	})
	return p
}

// Accept implements [net.Listener].
func (p *port) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	out := newConn(c, p.l)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[out] = struct{}{}
	out.forget = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, out)
	}
	return out, nil
}

// cut breaks every connection to the port.
func (p *port) cut() {
	p.mu.Lock()
	var all []net.Conn
	for c := range p.conns {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// dial connects a life to another process's port.
func (n *network) dial(ctx context.Context, from *life, to string) (net.Conn, error) {
	n.mu.Lock()
	p := n.ports[to]
	n.mu.Unlock()
	if from != nil {
		from.hold(from)
		if from.isDead() {
			return nil, errDead
		}
	}
	if p == nil || p.l.isDead() || p.l.unreachable() {
		return nil, fmt.Errorf("dial %s: %w", to, errNoNetwork)
	}
	c, err := p.DialContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	if from == nil {
		return c, nil
	}
	out := newConn(c, from)
	out.stalls = true
	from.mu.Lock()
	if from.conns == nil {
		from.conns = map[net.Conn]struct{}{}
	}
	from.conns[out] = struct{}{}
	from.mu.Unlock()
	out.forget = func() {
		from.mu.Lock()
		defer from.mu.Unlock()
		delete(from.conns, out)
	}
	return out, nil
}

// cut breaks all connections to and from a process.
func (n *network) cut(s *surroundings) {
	n.mu.Lock()
	for _, p := range n.ports {
		if p.l.surroundings == s {
			defer p.cut()
		}
	}
	n.mu.Unlock()
	s.hangUp()
}

func (s *surroundings) hangUp() {
	s.mu.Lock()
	var all []net.Conn
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

func (s *surroundings) unreachable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.refused)
}

// conn is one end of a connection: it stands still with its process, and reads
// nothing while it is stalled, unless it is known to be broken: one that refuses
// what is written and does not fail to be read is none that TCP has, and keeps
// grpc-go trying again without a pause.
type conn struct {
	net.Conn
	l      *life
	stalls bool
	forget func()
	broken context.Context
	fail   context.CancelFunc
}

func newConn(c net.Conn, l *life) *conn {
	out := &conn{Conn: c, l: l, forget: func() {}}
	out.broken, out.fail = context.WithCancel(context.Background())
	return out
}

func (c *conn) Read(p []byte) (int, error) {
	if !c.stalls {
		n, err := c.Conn.Read(p)
		c.l.hold(c.l)
		return n, err
	}
	c.l.mu.Lock()
	slow := c.l.slow
	c.l.mu.Unlock()
	if slow > 0 {
		p = p[:min(len(p), sip)]
	}
	n, err := c.Conn.Read(p)
	c.l.hold(c.l)
	c.l.mu.Lock()
	until := c.l.stalled
	c.l.mu.Unlock()
	c.l.wait(c.broken, max(time.Until(until), slow))
	return n, err
}

// sip is what a slow reader takes at once.
const sip = 4 << 10

func (c *conn) Write(p []byte) (int, error) {
	c.l.hold(c.l)
	n, err := c.Conn.Write(p)
	if err != nil {
		c.fail()
	}
	return n, err
}

func (c *conn) Close() error {
	c.forget()
	c.fail()
	return c.Conn.Close()
}
