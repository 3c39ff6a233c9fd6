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
	fuse   int               // above 0: connections are cut after so many bytes, at most
	rng    *rand.Rand
	closed bool
	burnt  [2]int // connections that a fuse has cut in what a client said, and in what a server did
}

// fuse burns down with what is passed on in either direction. The connection
// breaks in the next piece of the direction that was drawn, so that what a
// client says is hit as often as what it is told, however much more that is.
type fuse struct {
	left     atomic.Int64
	toServer bool
	at       float64 // part of that piece that arrives
}

// burn is how much of a piece arrives, and whether the connection breaks there.
// No fuse never burns.
func (f *fuse) burn(n int, toServer bool) (int, bool) {
	if f == nil || f.left.Add(-int64(n)) > 0 || f.toServer != toServer {
		return n, false
	}
	return int(f.at * float64(n)), true
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
	var f *fuse
	p.mu.Lock()
	if p.fuse > 0 {
		f = &fuse{}
		f.left.Store(int64(1 + p.rng.IntN(p.fuse)))
		f.toServer, f.at = p.rng.IntN(2) == 0, p.rng.Float64()
	}
	p.mu.Unlock()
	p.wg.Go(func() { p.pass(server, client, f, true); p.drop(client, server) })
	p.pass(client, server, f, false)
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

// pass copies until an end closes, or the fuse breaks the connection.
func (p *proxy) pass(to, from net.Conn, f *fuse, toServer bool) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if toServer {
				p.note(buf[:n])
			}
			if wait := p.hanging(); wait != nil {
				<-wait
			}
			if d := p.latency.Load(); d > 0 {
				time.Sleep(time.Duration(d))
			}
			n, burnt := f.burn(n, toServer)
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
			if burnt {
				p.count(toServer)
				hard(to)
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) count(toServer bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if toServer {
		p.burnt[0]++
	} else {
		p.burnt[1]++
	}
}

// cuts is how many connections a fuse has cut in what a client said, and in
// what a server did.
func (p *proxy) cuts() (ofClient, ofServer int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.burnt[0], p.burnt[1]
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

// cutWithin breaks every connection that is made from now on, when at most so
// many bytes have passed, in the middle of what either side says next, and
// those that are open now.
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
