package ops

import (
	"container/list"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/quiet"
)

const (
	// mostConnections is far more than the number of scrapers of one process, and needs
	// at most 64 MiB if each sends the largest allowed header.
	mostConnections = 1024
	// streamsPerConnection bounds the requests at once on one HTTP/2 connection.
	streamsPerConnection = 64
)

// connections limits the connections of a listener. Above the limit, the connection that
// has waited longest for a complete request is closed: clients that open connections and
// send nothing, or one byte per second, compete with each other rather than with real
// clients. If all connections have a request in progress, the newest one is closed.
type connections struct {
	most int
	log  *quiet.Log

	mu      sync.Mutex
	open    map[net.Conn]*list.Element // of waiting; nil while a request is answered
	waiting *list.List                 // of net.Conn; who waits longest stands first
}

func newConnections(most int, log *slog.Logger) *connections {
	return &connections{most: most, log: quiet.New(log, time.Minute), open: map[net.Conn]*list.Element{}, waiting: list.New()}
}

// track is the ConnState hook of a server. A connection that has sent a part of
// a header still waits: the server calls it active once the header is whole.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, known := c.open[conn]
	switch {
	case state == http.StateNew:
		c.open[conn] = c.waiting.PushBack(conn)
		if len(c.open) > c.most {
			c.closeOne()
		}
	case !known: // closed for want of room; its goroutine has yet to notice
	case state == http.StateActive && element != nil:
		c.waiting.Remove(element)
		c.open[conn] = nil
	case state == http.StateIdle && element == nil:
		c.open[conn] = c.waiting.PushBack(conn)
	case state == http.StateClosed, state == http.StateHijacked:
		c.forget(conn)
	}
}

func (c *connections) forget(conn net.Conn) {
	if element := c.open[conn]; element != nil {
		c.waiting.Remove(element)
	}
	delete(c.open, conn)
}

// closeOne closes the connection that has waited longest; the newest one is
// there too, and last.
func (c *connections) closeOne() {
	conn := c.waiting.Front().Value.(net.Conn)
	c.forget(conn)
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn() // without a farewell, for which one might have to wait
	}
	_ = conn.Close() // nobody is left to be told
	c.log.Warn("", "connection limit reached, closing the connections that are idle longest", "limit", c.most)
}
