package e2e

import (
	"bytes"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// proxy is a TCP connection that can go wrong. It listens on a loopback address
// of its own and passes bytes on to another, until told otherwise. Safe for
// concurrent use.
type proxy struct {
	listener net.Listener
	upstream string
	wg       sync.WaitGroup
	// latency is added to every piece that is passed on, in either direction.
	latency atomic.Int64
	// refuse closes every connection as soon as it is accepted.
	refuse atomic.Bool

	mu     sync.Mutex
	open   map[net.Conn]bool // both ends of every connection
	asked  []time.Time       // when a client sent something
	hung   chan struct{}     // nil: passing; else closed when the hanging ends
	trap   []byte            // what a client says when the hanging shall begin; nil: none
	fuse   int               // above 0: connections are cut after so many bytes of the server, at most
	rng    *rand.Rand
	closed bool
}

// newProxy listens; it ends with the test.
func newProxy(t testing.TB, upstream string, seed uint64) *proxy {
	t.Helper()
	p := &proxy{listener: testkit.Listen(t), upstream: upstream, open: map[net.Conn]bool{}, rng: rand.New(rand.NewPCG(seed, 1))}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.heal()
		_ = p.listener.Close() // there is nobody left to miss it
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		if p.refuse.Load() {
			reset(client)
			continue
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.upstream, 2*time.Second)
	if err != nil {
		reset(client) // as the kernel would have done
		return
	}
	if !p.register(client, server) {
		return
	}
	var fuse *int
	p.mu.Lock()
	if p.fuse > 0 {
		n := 1 + p.rng.IntN(p.fuse)
		fuse = &n
	}
	p.mu.Unlock()
	p.wg.Go(func() { p.pass(server, client, nil, p.note); p.drop(client, server) })
	p.pass(client, server, fuse, nil)
	p.drop(client, server)
}

// note remembers that a client sent something now, and springs the trap.
func (p *proxy) note(said []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, time.Now())
	if p.trap != nil && bytes.Contains(said, p.trap) {
		p.trap = nil
		p.hung = make(chan struct{})
	}
}

// hangAt begins to hang when a client says something, and with it: what was
// said arrives when the hanging ends, whether or not its client still waits.
func (p *proxy) hangAt(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hung == nil {
		p.trap = []byte(text)
	}
}

// questions are the moments at which a client sent something.
func (p *proxy) questions() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]time.Time(nil), p.asked...)
}

// pass copies until an end closes, or the fuse has burnt down: then the
// connection breaks.
func (p *proxy) pass(to, from net.Conn, fuse *int, note func([]byte)) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if note != nil {
				note(buf[:n])
			}
			if wait := p.hanging(); wait != nil {
				<-wait
			}
			if d := p.latency.Load(); d > 0 {
				time.Sleep(time.Duration(d))
			}
			burnt := fuse != nil && n >= *fuse
			if burnt {
				n = *fuse
			}
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
			if burnt {
				hard(to)
				return
			}
			if fuse != nil {
				*fuse -= n
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) register(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.closed {
			reset(c)
			continue
		}
		p.open[c] = true
	}
	return !p.closed
}

func (p *proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
		_ = c.Close() // it may be closed already
	}
}

// hard makes the end of a connection a reset: what was sent and not yet read
// is lost.
func hard(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it may be closed already
	}
}

func reset(c net.Conn) {
	hard(c)
	_ = c.Close() // as above
}

// cut breaks all connections, wherever they are in what they are saying.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		delete(p.open, c)
		reset(c)
	}
}

// cutWithin breaks every connection that is made from now on after at most so
// many bytes from the server, at a random one, and those that are open now.
func (p *proxy) cutWithin(bytes int) {
	p.mu.Lock()
	p.fuse = bytes
	p.mu.Unlock()
	p.cut()
}

// hang stops passing anything on: the connections are there, and silent.
func (p *proxy) hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hung == nil {
		p.hung = make(chan struct{})
	}
}

func (p *proxy) hanging() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hung
}

// heal ends whatever was wrong.
func (p *proxy) heal() {
	p.latency.Store(0)
	p.refuse.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fuse, p.trap = 0, nil
	if p.hung != nil {
		close(p.hung)
		p.hung = nil
	}
}
